"""Weight files by their headers: the kind of file, its tensors, and how they are stored."""
