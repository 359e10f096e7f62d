"""Checkpoints on disk: what each file is, what makes up a whole model, and where models are found."""
