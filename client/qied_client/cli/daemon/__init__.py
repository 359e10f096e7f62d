"""Commands that ask the daemon: what it does, keeps and offers, and whom it lets in."""
