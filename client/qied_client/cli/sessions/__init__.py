"""``session``: several turns on one picture, from the command line."""
