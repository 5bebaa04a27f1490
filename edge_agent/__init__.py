"""Real-time visual inspection at the edge: frames in, verdicts out."""

__version__ = "0.1.0"
