"""Models from the Hugging Face hub: what a pull needs, what of it is there, and the rest fetched; no torch."""
