"""Checkpoints as people have them: what each file is, what makes up a whole model, and where models lie."""
