"""``run`` in parts: the command, where results go, and what ``--explain`` prints."""
