"""Parts of ``benchmarks/serve_edit.py``."""
