"""``edit`` in parts: which argument is what, where results go, the edits themselves, and errors in its words."""
