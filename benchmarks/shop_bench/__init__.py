"""Parts of ``benchmarks/shop.py``."""
