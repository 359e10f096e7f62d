"""The VAE for single frames, whole or in tiles."""
