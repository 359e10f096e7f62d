"""Upscaling pictures in tiles, by small networks that are loaded for it and let go of afterwards."""
