"""Upscaling models: which files there are, and what is in them, and what a process with torch shows of them."""
