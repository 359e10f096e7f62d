"""Completion by the shell: names that the daemon knows, asked for when Tab is pressed, and those that the client knows.

Where no daemon answers nothing is offered, and shells go on with the names of files: no message can be shown in a line
that is being typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import shorten
from typing import Final

import typer

from qied_client.client import Client
from qied_client.errors import QiedError
from qied_client.protocol.request import BACKGROUNDS, COMPAT_PROGRAMS, MASK_MODES
from qied_client.recipes import shipped_recipes

_PATIENCE_S: Final = 2.0
"""How long a person who has pressed Tab waits for a daemon."""
_ABOUT_CHARS: Final = 60
"""What is said about a word fits into a line: typer folds longer texts, and fish takes each line for an offer."""
Offer = tuple[str, str]
"""A word, and a few more about it, which some shells show."""
Complete = Callable[[typer.Context, str], list[Offer]]


def _of_the_daemon(ask: Callable[[Client], Iterable[Offer]]) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        key, address = ctx.params.get("key"), ctx.params.get("address")
        try:
            with Client(key, address=address, patience=_PATIENCE_S) as client:
                return _that_begin_with(incomplete, ask(client))
        except (QiedError, OSError):
            return []

    return complete


def _of(words: Callable[[], Iterable[Offer]]) -> Complete:
    return lambda ctx, incomplete: _that_begin_with(incomplete, words())


def _that_begin_with(incomplete: str, offers: Iterable[Offer]) -> list[Offer]:
    return [
        (word, shorten(about, _ABOUT_CHARS, placeholder="...")) for word, about in offers if word.startswith(incomplete)
    ]


def _loras(client: Client) -> Iterable[Offer]:
    return ((row.name, f"for {row.steps} steps" if row.steps else "") for row in client.loras() if not row.problem)


def _upscalers(client: Client) -> Iterable[Offer]:
    rows = client.upscalers()
    scales = sorted({row.scale for row in rows if row.scale > 1})
    yield from ((f"{scale}x", "the first model of this scale") for scale in scales)
    yield from ((row.name, f"{row.scale}x") for row in rows)


def _precisions(client: Client) -> Iterable[Offer]:
    second = ((plan.get("second") or {}).get("precision", "") for plan in client.plans())
    names = dict.fromkeys((client.describe().precision, *second))
    return ((name, "") for name in names if name)


def _sessions(client: Client) -> Iterable[Offer]:
    return ((session.name, "") for session in client.sessions())


loras: Final = _of_the_daemon(_loras)
upscalers: Final = _of_the_daemon(_upscalers)
presets: Final = _of_the_daemon(lambda client: ((row.name, row.about) for row in client.describe().presets))
precisions: Final = _of_the_daemon(_precisions)
sessions: Final = _of_the_daemon(_sessions)
jobs: Final = _of_the_daemon(lambda client: ((job.id, job.state) for job in client.jobs()))
recipes: Final = _of(lambda: ((recipe.name, recipe.about) for recipe in shipped_recipes()))
mask_modes: Final = _of(lambda: ((mode, "") for mode in MASK_MODES))
backgrounds: Final = _of(lambda: ((name, "") for name in BACKGROUNDS))
sizes: Final = _of(lambda: [("same", "the last picture's own"), ("kontext", "with --compat comfyui")])
programs: Final = _of(lambda: ((name, "") for name in COMPAT_PROGRAMS))
