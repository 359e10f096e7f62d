"""The doctor's own daemon, which runs one short edit and refuses one unknown key: its memory and its access control."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from qied_client import Client
from qied_client.credentials import LOCAL_FILE, Credential, read_credential
from qied_client.errors import InternalError, QiedError, UnsafeAuthentication
from qied_client.picture_metadata import read_metadata
from qied_client.results import Progress

from qied.doctor.meters import MeterOf, Peak, watching
from qied.edit import EditSpec
from qied.private_daemon import PrivateDaemon, private_daemon
from qied.progress import OnProgress
from qied.server.access.authentication import prove_strangers_are_refused

_START_S = 1200.0
_EDIT_S = 1200.0
_STEPS = 2
_PICTURE = "demo.png"
_PROMPT = "make the red heart blue"


@dataclass(frozen=True)
class EditTrial:
    """What one edit took: the peak in bytes, and whether a key that is not enrolled was refused.

    ``edit`` is what was done, with the daemon's defaults filled in. ``failure`` is the error where daemon or edit did
    not get that far; ``log`` are the daemon's lines.
    """

    peak_bytes: int = 0
    stranger_refused: bool | None = None
    edit: EditSpec | None = None
    failure: QiedError | None = None
    log: tuple[str, ...] = ()


def run_trial(
    arguments: Sequence[str], environ: Mapping[str, str], meters: AbstractContextManager[MeterOf], watch: OnProgress
) -> EditTrial:
    """Start ``qied serve`` with ``arguments``, knock with a stranger's key, do one edit, and stop it.

    ``environ`` is the daemon's environment; ``meters`` are entered before it starts. Typed errors become the trial's
    ``failure``.
    """
    watch("starting a daemon", 0, 0)
    peak, refused, edit, log = Peak(), None, None, list[str]()
    try:
        with (
            meters as meter_of,
            private_daemon(arguments, environ, _START_S, log) as daemon,
            watching(meter_of(daemon.pid)) as peak,
        ):
            credential = read_credential(daemon.home / LOCAL_FILE)
            refused = stranger_is_refused(credential)
            edit = _edit(daemon, watch)
    except QiedError as failure:
        return EditTrial(peak.bytes, refused, None, failure, tuple(log))
    return EditTrial(peak.bytes, refused, edit, None, tuple(log))


def stranger_is_refused(credential: Credential) -> bool:
    """Whether the daemon of this credential turns away a key pair made just now."""
    try:
        asyncio.run(prove_strangers_are_refused(credential.endpoint, credential.server_key.encode()))
    except UnsafeAuthentication:
        return False
    return True


def _edit(daemon: PrivateDaemon, watch: OnProgress) -> EditSpec:
    def tell(news: Progress) -> None:
        watch("editing a picture", news.done, news.total)

    picture = Path(str(importlib.resources.files("qied.builtin") / _PICTURE)).read_bytes()
    with Client(daemon.home / LOCAL_FILE) as client:
        pictures = [picture] if client.welcome.max_images else []
        result = client.edit(pictures, _PROMPT, seed=0, steps=_STEPS, timeout=_EDIT_S, on_progress=tell)
    made = read_metadata(result.bytes)
    if made is None:
        raise InternalError("The result of the doctor's edit does not say how it was made.")
    return EditSpec(
        images=tuple(hashlib.sha256(each).hexdigest() for each in pictures),
        prompt=made.prompt,
        negative_prompt=made.negative_prompt,
        seed=made.seed,
        steps=made.steps,
        true_cfg_scale=made.true_cfg_scale,
        width=made.width,
        height=made.height,
    )
