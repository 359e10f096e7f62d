"""The engine alone in a process of its own, with no daemon around it: what an edit costs at least."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from PIL import Image
from qied_client.transfers import hash_of

from qied.edit import EditSpec
from wire_bench.child import questions

SIDE = 256
PROMPT = "make the red circle blue"


@dataclass(frozen=True)
class BareEdit:
    """One edit by the engine alone: milliseconds, and the SHA-256 of its pixels."""

    milliseconds: float
    pixels: str


def edit_spec(blob: str, seed: int, steps: int, previews: bool) -> EditSpec:
    """The edit that the daemon makes of the request in ``edits.py``."""
    every = max(1, steps // 10) if previews else 0
    return EditSpec((blob,), PROMPT, None, seed, steps, 1.0, SIDE, SIDE, preview_every=every)


def serve_bare_engine(pipe: Connection) -> None:
    """In a child process: load the built-in model as a worker does, then answer (picture, seed, steps, previews)."""
    from qied.engine.engine import Engine, EngineOptions
    from qied.planning.profiles.model_profile import shipped_profiles
    from qied.resources import builtin_model_folder

    profile = shipped_profiles()["builtin"]
    engine = Engine.load(builtin_model_folder(), profile, EngineOptions("cpu", "fp32"), lambda *_: None)
    for data, seed, steps, previews in questions(pipe):
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        blob = hash_of(data)
        started = time.perf_counter()
        edit = engine.begin(edit_spec(blob, seed, steps, previews), {blob: picture}, "bare")
        while (image := edit.advance().image) is None:
            pass
        pipe.send(BareEdit((time.perf_counter() - started) * 1000, hash_of(image.tobytes())))
