"""The daemon that runs Qwen-Image-Edit on the GPU at hand, and the ``qied`` command."""

__version__ = "0.2.0"
