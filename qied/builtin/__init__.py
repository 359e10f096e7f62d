"""The small built-in model, its LoRAs and the demo picture, as data."""
