"""Benchmarks of tinker-actors: one module per question, each prints its table (``python -m benchmarks NAME``)."""
