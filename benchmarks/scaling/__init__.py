"""What `benchmarks.scale` measures, each question in a file of its own, and how the answers look."""
