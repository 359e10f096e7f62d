"""Prompt tokens: the edit template, one run of image tokens per picture, and their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qied.planning.profiles.model_profile import PromptTemplate

_IMAGE_TOKEN = "<|image_pad|>"
_SPECIAL_ENDS = "|>"


def template_head(template: PromptTemplate) -> str:
    """What stands before the user's pictures and text."""
    return f"<|im_start|>system\n{template.system}<|im_end|>\n<|im_start|>user\n"


TEMPLATE_TAIL = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Grid:
    """Rows and columns of one picture's image tokens, after merging."""

    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """Image tokens that stand for the picture."""
        return self.rows * self.columns


class PromptTokens:
    """Makes token ids of a whole prompt; the text of a user never becomes a special token."""

    def __init__(self, tokenizer: Any, template: PromptTemplate) -> None:
        self._tokenizer = tokenizer
        self._picture = template.picture
        self._head = template_head(template)
        self.image_token: int = tokenizer.convert_tokens_to_ids(_IMAGE_TOKEN)
        self.template_tokens = len(self._template(self._head))

    def count(self, prompt: str) -> int:
        """Tokens of the user's text alone."""
        return len(self._user_text(prompt))

    def ids(self, prompt: str, grids: Sequence[Grid]) -> list[int]:
        """Return the token ids of template, pictures and prompt, the image token repeated for each picture."""
        pictures = "".join(self._picture.format(number=number) for number in range(1, len(grids) + 1))
        before, plain = _cut_behind_special(self._head + pictures)
        remaining = iter(grids)
        ids: list[int] = []
        for token in self._template(before):
            ids += [token] * next(remaining).tokens if token == self.image_token else [token]
        # Without a picture the head's last line ends in plain text, and words form over its end.
        return ids + self._user_text(plain + prompt) + self._template(TEMPLATE_TAIL)

    def _template(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def _user_text(self, prompt: str) -> list[int]:
        return list(self._tokenizer(prompt, split_special_tokens=True)["input_ids"]) if prompt else []


def _cut_behind_special(text: str) -> tuple[str, str]:
    """The text up to the end of its last special token, and what follows."""
    cut = text.rindex(_SPECIAL_ENDS) + len(_SPECIAL_ENDS)
    return text[:cut], text[cut:]


def mrope_positions(ids: Sequence[int], image_token: int, grids: Sequence[Grid]) -> Tensor:
    """Return M-RoPE positions int64 [3, 1, len(ids)] (time, height, width), as Qwen2.5-VL was trained.

    Text counts up in all three axes; a picture keeps the time of its start and counts rows and columns from there;
    what follows starts after its longer side.
    """
    parts: list[Tensor] = []
    position, index = 0, 0
    remaining = iter(grids)
    while index < len(ids):
        if ids[index] == image_token:
            grid = next(remaining)
            rows, columns = torch.meshgrid(torch.arange(grid.rows), torch.arange(grid.columns), indexing="ij")
            parts.append(torch.stack([torch.zeros_like(rows), rows, columns]).reshape(3, -1) + position)
            position += max(grid.rows, grid.columns)
            index += grid.tokens
        else:
            parts.append(torch.full((3, 1), position))
            position += 1
            index += 1
    return torch.cat(parts, dim=1).unsqueeze(1)


def plain_positions(ids: Sequence[int]) -> Tensor:
    """Return positions int64 [3, 1, len(ids)] that ignore the pictures' shapes, as diffusers' pipeline runs it."""
    return torch.arange(len(ids)).expand(3, 1, -1)
