"""Caches on disk that shorten the next start: found by content, written whole, checked when they are read."""
