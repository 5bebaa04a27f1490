"""The composition root: from a configuration to objects, started in order and stopped in reverse."""
