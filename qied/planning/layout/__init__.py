"""How weights and activations lie in memory, and the bytes that they take."""
