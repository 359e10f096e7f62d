"""qied: a runtime manager daemon for Qwen-Image-Edit on the GPU that you have."""

__version__ = "0.2.0"
