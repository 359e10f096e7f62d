"""What the daemon promised and how it ended, on the disk before anybody is told."""
