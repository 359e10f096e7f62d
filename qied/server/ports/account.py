"""What one user holds at this moment over all of its connections, and the errors for more than that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from qied_client.errors import QuotaExceeded

from qied.config import Config, LimitsConfig


@dataclass
class Account:
    """Counts of one user. ``unread`` are bytes that were sent and that no connection is known to have read."""

    user: str = ""
    limits: LimitsConfig = field(default_factory=lambda: Config().limits)
    connections: int = 0
    uploads: int = 0
    downloads: int = 0
    requests: int = 0
    unread: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def was_read(self, size: int) -> None:
        """Give back room in ``unread``; downloads that wait for it look again."""
        self.unread -= size
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()


class Accounts:
    """The accounts of all users that have been here; there are only as many as were ever enrolled."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._accounts: dict[str, Account] = {}

    def of(self, user: str) -> Account:
        """The account of a user, which all of its connections share."""
        account = self._accounts.get(user)
        if account is None:
            account = self._accounts[user] = Account(user, self._limits)
        return account


def over_limit(setting: str, limit: int, things: str, remedy: str, *, passes: bool = True) -> QuotaExceeded:
    """The error for one more of ``things``: it names the setting, its value and what to do.

    ``passes``: the things end by themselves, so that waiting helps.
    """
    return QuotaExceeded(
        f"You have {limit} {things}, which is the limit ({setting}).",
        remedy,
        setting=setting,
        limit=limit,
        passes=passes,
    )
