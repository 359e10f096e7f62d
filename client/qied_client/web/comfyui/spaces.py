"""The views of all users."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from qied_client.web.comfyui.prompt import Prompt
from qied_client.web.comfyui.space import Space, SpaceLimits


class Spaces:
    """A view for each user, made when it is first wanted; ``run`` carries out their prompts."""

    def __init__(
        self, run: Callable[[Space, Prompt], Coroutine[Any, Any, None]], limits: SpaceLimits | None = None
    ) -> None:
        self._run = run
        self._limits = limits or SpaceLimits()
        self._spaces: dict[str, Space] = {}

    def of(self, user: str) -> Space:
        """The view of a user."""
        if user not in self._spaces:
            self._spaces[user] = Space(user, self._run, self._limits)
        return self._spaces[user]

    async def close(self) -> None:
        """End everything that runs."""
        await asyncio.gather(*(space.close() for space in self._spaces.values()))
