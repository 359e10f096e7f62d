"""The contact sheet: some edits of the main row, evenly over tasks, languages and phrasings."""

from __future__ import annotations

import torch
from PIL import Image

from quality_bench.jobs import tensor_of
from quality_bench.measuring import Measured
from quality_bench.sets import single_edits
from tools.tiny_model.contact_sheet import contact_sheet, result_entries

EDITS = 24
LEVEL_STEP = 4
"""Levels are rounded to multiples of this: the faint noise of results would make the file three times as large."""


def shown_edits(limit: int | None) -> frozenset[int]:
    """Numbers of the edits that the sheet shows."""
    return frozenset(session.number for session in single_edits(min(EDITS, limit or EDITS)))


def sheet(measured: Measured) -> Image.Image:
    """The kept pictures of a row as a sheet, with those that failed in red."""
    pictures = measured.pictures()
    shown = [outcome for outcome in measured.outcomes if outcome.session in pictures]
    edits = [measured.sessions[outcome.session].edits[0] for outcome in shown]
    outputs = torch.stack([tensor_of(pictures[outcome.session]) for outcome in shown])
    entries = result_entries(edits, outputs, [outcome.score.success for outcome in shown])
    rounded = [min(255, round(level / LEVEL_STEP) * LEVEL_STEP) for level in range(256)]
    return contact_sheet(entries).point(rounded * 3)
