"""Pictures on the disk: stored by hash, within limits, owned by users."""
