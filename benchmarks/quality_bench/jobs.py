"""One piece of work: sessions that run together on one engine, and what is measured of each of their turns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qied.edit import EditSpec
from qied.engine.edits.edit import Edit as EngineEdit
from qied.engine.engine import Engine
from quality_bench.loras import with_lora
from quality_bench.rows import Row
from quality_bench.sets import Session
from tools.tiny_model.edits import Edit
from tools.tiny_model.metrics import psnr
from tools.tiny_model.render import render_scenes, scene_rows
from tools.tiny_model.scenes import SIDE, Scene
from tools.tiny_model.scoring import Score, edited_region, score
from tools.tiny_model.style import shows_style, styled_rows

EMPTY_PROMPT = " "
"""What a prompt is compared with under guidance."""


@dataclass(frozen=True)
class Job:
    """Sessions that advance together, a unit of work of each in turn, as in a worker.

    ``with_lora`` says of each session whether it has the row's LoRA. ``keep`` are the numbers of sessions whose
    pictures are wanted.
    """

    row: Row
    sessions: tuple[Session, ...]
    with_lora: tuple[bool, ...]
    keep: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What one turn of a session gave. ``turn`` counts from 0; ``digest`` is the SHA-256 of the pixels.

    ``untouched_db``: PSNR against the session's first source where no turn so far edits anything, None where there is
    no such pixel. ``shows_style`` is None where the truth has no shape to show it on; ``styled_db`` is the PSNR to the
    truth in the style, None without the LoRA of it. ``picture`` is RGB, None unless it was wanted.
    """

    session: int
    turn: int
    with_lora: bool
    score: Score
    digest: str
    untouched_db: float | None
    shows_style: bool | None
    styled_db: float | None
    picture: Image.Image | None = None


def run(job: Job, engine: Engine, device: str) -> list[Outcome]:
    """Carry out a job; measures are computed on ``device``. Outcomes come in the order in which turns end."""
    sessions = [
        _units(job, session, chosen, engine, device)
        for session, chosen in zip(job.sessions, job.with_lora, strict=True)
    ]
    return [outcome for units in zip_longest(*sessions) for outcome in units if outcome is not None]


def _units(job: Job, session: Session, chosen: bool, engine: Engine, device: str) -> Iterator[Outcome | None]:
    """Run one session: None after each unit of work, or what came of the turn that it ended."""
    given = picture_of(session.edits[0].source)
    for turn, edit in enumerate(session.edits):
        running = begin_edit(engine, job.row, edit, given, session.seed + turn, chosen)
        while (image := running.advance().image) is None:
            yield None
        given = image
        yield _measured(job, session, turn, chosen, image, device)


def begin_edit(engine: Engine, row: Row, edit: Edit, given: Image.Image, seed: int, chosen: bool) -> EngineEdit:
    """Begin an edit of the picture ``given``, as the row has it; with the row's LoRA where it was ``chosen``."""
    pictures = [given] if edit.reference is None else [given, picture_of(edit.reference)]
    named = {digest(picture): picture for picture in pictures}
    spec = EditSpec(
        images=tuple(digest(picture) for picture in pictures),
        prompt=edit.instruction,
        negative_prompt=EMPTY_PROMPT if row.cfg > 1 else None,
        seed=seed,
        steps=row.steps,
        true_cfg_scale=row.cfg,
        width=SIDE,
        height=SIDE,
        preview_every=0,
    )
    if row.lora is not None and chosen:
        spec = with_lora(spec, row.lora)
    return engine.begin(spec, named, None)


def _measured(job: Job, session: Session, turn: int, chosen: bool, image: Image.Image, device: str) -> Outcome:
    edit = session.edits[turn]
    output = tensor_of(image).to(device)[None]
    styled = chosen and job.row.lora == "style"
    return Outcome(
        session=session.number,
        turn=turn,
        with_lora=chosen,
        score=score(output, [edit])[0],
        digest=digest(image),
        untouched_db=_untouched_db(output, session.edits[: turn + 1]),
        shows_style=shows_style(output, [edit])[0],
        styled_db=float(psnr(output, styled_rows(scene_rows([edit.target]).to(device)))) if styled else None,
        picture=image if session.number in job.keep else None,
    )


def _untouched_db(output: Tensor, edits: Sequence[Edit]) -> float | None:
    """PSNR in dB of the output [1, 3, SIDE, SIDE] against the first source where none of the edits changes it."""
    scenes = render_scenes([edits[0].source, *(edit.target for edit in edits)], output.device)
    untouched = ~edited_region(scenes[:1], scenes[1:]).any(0, keepdim=True)
    value = float(psnr(output, scenes[:1], untouched))
    return None if math.isnan(value) else value


def picture_of(scene: Scene) -> Image.Image:
    """A scene as an RGB picture of 8 bits."""
    levels = (render_scenes([scene])[0] * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def tensor_of(picture: Image.Image) -> Tensor:
    """An RGB picture as FP32 [3, height, width], 0..1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def digest(picture: Image.Image) -> str:
    """SHA-256 (hex) of the pixels."""
    return hashlib.sha256(picture.tobytes()).hexdigest()
