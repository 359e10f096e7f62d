"""Weights from file to tensor: mapped, expanded or quantised, and built into models."""
