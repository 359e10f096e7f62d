"""``qied pull``: which files of a Hugging Face repository are needed, which are there, and fetching the rest."""
