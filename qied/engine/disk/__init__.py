"""Files that spare the next start its work: written whole, found by their content, checked when they are read."""
