"""Decoders: raw model outputs to detections. One file per family; pure."""
