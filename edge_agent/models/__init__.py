"""Model files: what they say about themselves, their labels and their identity."""
