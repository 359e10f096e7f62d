"""The VAE for single frames, whole and in tiles."""
