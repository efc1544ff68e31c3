"""Benchmarks: every workload against its peers, in one run (`python -m benchmarks --help`)."""
