"""Decides, from a machine, a model and a configuration, what is served."""
