"""The journal: what the daemon promised and how it ended, on disk before anybody is told."""
