"""Checkpoints on disk: what each file is, what makes a whole model, and where models are found."""
