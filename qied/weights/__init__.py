"""Weight files by their headers alone: what kind of file it is, which tensors are in it, how they are stored."""
