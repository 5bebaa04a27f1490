"""The only code with threads, clocks and retries."""
