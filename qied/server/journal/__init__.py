"""The journal: what the daemon promised and how it ended, on disk before any client hears of it."""
