"""Encrypted sockets: complete, checked messages in and out, and the guard against floods."""
