"""Parts of ``benchmarks/forward.py``."""
