"""edge-agent on arm64, emulated where this machine is none: what `scripts/test-arm64` runs. Nothing here is for pytest."""
