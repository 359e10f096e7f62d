"""Thin client for qied: no torch, only pyzmq and msgpack."""

__version__ = "0.1.0"
