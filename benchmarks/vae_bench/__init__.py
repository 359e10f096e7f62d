"""Parts of ``benchmarks/vae.py``."""
