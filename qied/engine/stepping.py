"""One edit in progress, advanced a unit of work at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from PIL import Image
from qied_client.errors import OutOfMemory

from qied.edit import EditSpec
from qied.engine.cache import SceneCache
from qied.engine.faults import is_exhausted, is_lost
from qied.engine.phases import run_edit
from qied.engine.work import Account, Advance, Order, Workbench
from qied.worker.engine import DeviceLost


class Edit:
    """One edit in progress; dropping it frees its memory, and its result depends on nothing but spec and pictures."""

    def __init__(
        self, bench: Workbench, spec: EditSpec, pictures: Mapping[str, Image.Image], cache: SceneCache
    ) -> None:
        self.spec = spec
        self._device = bench.models.device
        self._account = Account()
        self._units = run_edit(bench, Order(spec, pictures), cache, self._account)

    @property
    def state_bytes(self) -> int:
        """Bytes of tensors that this edit holds between units; what its cache holds as well is counted here too."""
        return self._account.total

    def advance(self) -> Advance:
        """Do one bounded unit of work; what the cache holds is skipped.

        Raises OutOfMemory or JobFailed, and DeviceLost where no edit of this process can go on. After any error, and
        after the result, the edit is over and holds nothing.
        """
        started = time.perf_counter()
        exhausted: str | None = None
        try:
            with torch.inference_mode():
                unit = next(self._units, None)
        except BaseException as error:
            self._finish()
            if is_lost(error, self._device):
                raise DeviceLost(f"{self._device} no longer answers: {error}") from error
            if not is_exhausted(error):
                raise
            exhausted = str(error)
        if exhausted is not None:
            # Raised only here, so that the error does not keep the failed frames and their tensors alive.
            raise OutOfMemory(f"Memory ran out: {exhausted}", "Ask for a smaller picture.")
        assert unit is not None, "the edit is over"
        if unit.image is not None:
            self._finish()
        return replace(unit, milliseconds=(time.perf_counter() - started) * 1000)

    def _finish(self) -> None:
        finished: Iterator[Advance] = iter(())
        self._units = finished
        self._account = Account()
