"""Pictures on disk: stored by hash, kept within limits, owned by users."""
