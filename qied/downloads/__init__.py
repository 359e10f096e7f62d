"""Downloads of models from the Hugging Face hub: what a pull needs, what is there, fetching the rest; no torch."""
