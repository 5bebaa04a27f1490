"""Which board this is, what suits it, and how it feels."""
