"""Encrypted sockets: whole, checked messages in and out, and the guard against floods."""
