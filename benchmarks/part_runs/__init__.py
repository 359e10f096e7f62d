"""Benchmarks in parts: each part in a process of its own, its figures written down as soon as they are there."""
