"""How far the text encoder's results are from those in FP32 of the stored weights, by what is rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch import Tensor

from qied.planning.edits.geometry import vision_size
from quality_bench import rows
from quality_bench.engines import Engines, Model
from quality_bench.jobs import picture_of
from quality_bench.measures import Figures
from quality_bench.rows import Row
from quality_bench.sets import Session

EXACT = Row("", "fp32", 1, 1.0)
ROUNDED = (
    Row("computed in bf16", "bf16", 1, 1.0),
    *(Row(f"weights in {text}", "fp32", 1, 1.0, text=text) for text in rows.TEXT_PRECISIONS),
)
"""What is rounded in each: everything that is computed, or the weights alone."""


def text_errors(model: Model, sessions: list[Session], on_work: Callable[[str, int], None]) -> Figures:
    """Relative errors (norm of the difference, by the norm) of embeddings and vision features over all sessions.

    A row's weights are those of all layers, the vision tower's included.
    """
    engines = Engines(model)
    exact = list(_encoded(engines, EXACT, sessions))
    found: Figures = {}
    for row in ROUNDED:
        squares = torch.zeros(2, 2, dtype=torch.float64)
        for one, other in zip(_encoded(engines, row, sessions), exact, strict=True):
            for place, (mine, meant) in enumerate(zip(one, other, strict=True)):
                squares[place] += torch.stack([(mine - meant).square().sum(), meant.square().sum()])
            on_work(rows.TEXT, 1)
        vision, embeddings = (squares[:, 0] / squares[:, 1]).sqrt().tolist()
        found[row.name] = {"prompts": len(sessions), "embeddings": embeddings, "vision": vision}
    return found


@torch.inference_mode()
def _encoded(engines: Engines, row: Row, sessions: list[Session]) -> Iterator[tuple[Tensor, Tensor]]:
    """Vision features and embeddings of each edit, FP64 in host memory."""
    engine = engines.engine(row)
    encoder = engine.models.text_encoder
    for session in sessions:
        edit = session.edits[0]
        picture: Image.Image = picture_of(edit.source)
        features = encoder.vision_features(picture, vision_size(engines.model.profile, *picture.size))
        embeddings = encoder.prompt_embeddings(edit.instruction, [features])
        yield features.features.cpu().double(), embeddings.cpu().double()
