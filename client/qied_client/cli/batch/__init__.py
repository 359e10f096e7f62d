"""``batch`` and ``recipes``: many edits by one command, what they will take, and how far they are."""
