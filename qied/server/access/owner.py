"""The right of the machine's owner, who holds the local key, to do what others may not."""

from __future__ import annotations

from qied_client.errors import NotPermitted

from qied.server.access.keys import LOCAL_USER


def require_owner(user: str, what: str) -> None:
    """Raise NotPermitted unless the user is the owner; ``what`` completes "Only the machine's owner may ..."."""
    if user != LOCAL_USER:
        raise NotPermitted(
            f"Only the machine's owner may {what}; you are {user!r}.",
            "Ask the owner, who runs the command with the local key of the daemon.",
            user=user,
        )
