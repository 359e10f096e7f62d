"""LoRA files: which ones there are and what is in them, from names, sizes and headers alone."""
