"""Upscaling models: which files there are, and what is in them, from names and shapes alone."""
