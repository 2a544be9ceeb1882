"""Measures the hybrid as a whole: `python -m benchmarks.hybrid`."""
