"""Cameras. One file per kind; the file name is the `kind` in the configuration."""
