"""The service in a container that boots a real systemd: what `scripts/test-service` runs. Nothing here is for pytest."""
