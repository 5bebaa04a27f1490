"""Measurements whose command stands in the documentation. Not part of the wheel."""
