"""Work on the pixels of pictures that callers send, in a process of its own within limits of time and memory."""
