"""The VAE for single frames, whole or in tiles, and the tiny autoencoder that decodes previews."""
