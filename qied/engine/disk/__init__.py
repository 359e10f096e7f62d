"""Files that save work at the next start: written whole, found by their content, checked when read."""
