"""Copies from host memory to the card: streams, pinned buffers, and the ring that blocks pass through."""
