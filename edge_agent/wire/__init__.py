"""What leaves the process: messages, their schemas and their topics."""
