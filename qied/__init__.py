"""qied: a runtime manager daemon for Qwen-Image-Edit on the GPU that a person has."""

__version__ = "0.2.0"
