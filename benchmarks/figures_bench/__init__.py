"""Figures in prose: each is written from a result, or named as a fact that nobody measured."""
