"""What the hidden states of an instruction have to tell about its edit, and a probe that learns to read it.

The text encoder is first trained alone, through this probe: to say from instruction and picture which shape is meant
and what it becomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.tiny_model.edits import ALL_TASKS, Edit
from tools.tiny_model.scenes import COLOURS, KINDS, PATTERNS, PLACES, SIZES, Background, Shape
from tools.tiny_model.text_encoder import HIDDEN

ABSENT = -100
"""The class of what an edit does not have; ``cross_entropy`` ignores it."""
LABELS: dict[str, int] = {
    "task": len(ALL_TASKS),
    "kind before": len(KINDS),
    "colour before": len(COLOURS),
    "size before": len(SIZES),
    "place before": len(PLACES),
    "kind after": len(KINDS),
    "colour after": len(COLOURS),
    "size after": len(SIZES),
    "place after": len(PLACES),
    "pattern": len(PATTERNS),
    "first colour": len(COLOURS),
    "second colour": len(COLOURS),
}
"""Number of classes of each label: the task, the changed shape before and after it, the background after it."""
HEADS = 4


def labels(edit: Edit) -> list[int]:
    """The classes of an edit in the order of ``LABELS``, ``ABSENT`` where there is no such shape or background."""
    before = [shape for shape in edit.source.shapes if shape not in edit.target.shapes]
    after = [shape for shape in edit.target.shapes if shape not in edit.source.shapes]
    assert len(before) <= 1 and len(after) <= 1, "an edit changes one shape at most"
    background = edit.target.background if edit.target.background != edit.source.background else None
    return [ALL_TASKS.index(edit.task), *_look(before), *_look(after), *_back(background)]


def _look(shape: Sequence[Shape]) -> list[int]:
    if not shape:
        return [ABSENT] * 4
    (only,) = shape
    return [KINDS.index(only.kind), COLOURS.index(only.colour), SIZES.index(only.size), PLACES.index(only.place)]


def _back(background: Background | None) -> list[int]:
    if background is None:
        return [ABSENT] * 3
    first, second = COLOURS.index(background.first), COLOURS.index(background.second)
    return [PATTERNS.index(background.pattern), first, second]


class TextProbe(nn.Module):
    """One learnt query for each label attends to the hidden states, and a linear layer names the class."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(LABELS), HIDDEN) * HIDDEN**-0.5)
        self.keys_values = nn.Linear(HIDDEN, 2 * HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.classes = nn.ModuleList([nn.Linear(HIDDEN, classes) for classes in LABELS.values()])

    def forward(self, hidden: Tensor, lengths: Tensor) -> list[Tensor]:
        """Logits [B, classes] of each label from hidden states [B, T, HIDDEN], of which ``lengths`` [B] are valid."""
        count, tokens, _ = hidden.shape
        key, value = self.keys_values(hidden).view(count, tokens, 2, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        query = self.queries.to(key.dtype).view(1, len(LABELS), HEADS, -1).transpose(1, 2)
        valid = torch.arange(tokens, device=hidden.device) < lengths[:, None]
        read = F.scaled_dot_product_attention(query.expand(count, -1, -1, -1), key, value, valid[:, None, None])
        normed = self.norm(read.transpose(1, 2).flatten(2))
        return [layer(normed[:, index]) for index, layer in enumerate(self.classes)]

    @staticmethod
    def loss(logits: Sequence[Tensor], truth: Tensor) -> Tensor:
        """Mean cross entropy, a scalar, over those of the labels int64 [B, L] that are present; 0 where none is."""
        sums = [
            F.cross_entropy(each.float(), truth[:, index], ignore_index=ABSENT, reduction="sum")
            for index, each in enumerate(logits)
        ]
        return torch.stack(sums).sum() / (truth != ABSENT).sum().clamp(min=1)

    @staticmethod
    def accuracy(logits: Sequence[Tensor], truth: Tensor) -> dict[str, float]:
        """Share of right classes for each label that is present in int64 [B, L], and of edits with all right ("all").

        It reads the numbers back from the device, so it is for evaluation.
        """
        chosen = torch.stack([each.argmax(-1) for each in logits], 1)
        present = truth != ABSENT
        right = (chosen == truth) & present
        shares = {
            name: hits / total
            for name, hits, total in zip(LABELS, right.sum(0).tolist(), present.sum(0).tolist(), strict=True)
            if total
        }
        return {**shares, "all": (right | ~present).all(1).float().mean().item()}
