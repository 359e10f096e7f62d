"""Profiles of hardware and of models: the files that describe them, and what they say."""
