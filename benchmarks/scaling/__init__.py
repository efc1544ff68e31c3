"""Speed over the number of ranks, and what it will be with more: `python -m benchmarks.scaling`."""
