"""What only a GPU can show: `scripts/test-gpu` runs it and writes a report. Skipped with the reason everywhere else."""
