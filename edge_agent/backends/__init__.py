"""Inference engines. One file per kind; the file name is the `backend` in the configuration."""
