"""Copies from host memory to the card: streams, pinned buffers, and the ring that streamed blocks pass through."""
