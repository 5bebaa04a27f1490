"""The same work by others, and what `benchmarks.performance` needs to compare with them."""
