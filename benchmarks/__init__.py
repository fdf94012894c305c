"""Benchmarks: programs that measure Dealtrail against peers, print a table and write JSON. No test runs them."""
