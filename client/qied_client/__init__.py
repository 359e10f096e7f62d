"""Thin client for qied: no torch, only pyzmq and msgpack.

``Client`` and ``AsyncClient`` edit pictures, ``Job`` and ``Session`` are what they hand out, ``errors`` draws the tree
of what can go wrong.
"""

from qied_client.errors import QiedError

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Progress", "QiedError", "Result", "__version__"]


def __getattr__(name: str) -> object:
    """Load the clients when they are first asked for: errors and messages alone need no sockets."""
    if name in ("AsyncClient",):
        from qied_client.aio import AsyncClient

        return AsyncClient
    if name == "Client":
        from qied_client.client import Client

        return Client
    if name in ("Progress", "Result"):
        from qied_client import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
