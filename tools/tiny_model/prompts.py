"""Token ids of whole prompts, laid out as the pipeline lays them out, from the built tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from qied.engine.text.prompt import TEMPLATE_TAIL, template_head
from qied.planning.profiles.model_profile import shipped_profiles

TEMPLATE = shipped_profiles()["builtin"].template
TEMPLATE_HEAD = template_head(TEMPLATE)

VOCABULARY = 896
"""Tokens in all: 256 bytes, the merges, then the special tokens, which have the last ids."""
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Those of Qwen2.5-VL, in its order."""
TEMPLATE_TOKENS = 64
"""Tokens before the pictures: diffusers' pipeline drops this many hidden states, whatever the tokenizer."""
PADDING = "<|endoftext|>"
IMAGE_TOKEN = "<|image_pad|>"
MAX_PICTURES = 3
# The longest sentences that the phrasings can make, the longest name in every slot, take 61 tokens after the template
# with one picture and 95 with two, of which pictures and end of the template are 28 and 51.
TEXT_TOKENS = {1: 64, 2: 96}
"""Tokens after the template to which texts about so many pictures are padded."""


class Prompts:
    """Encodes instructions with the tokenizer in ``folder``; texts about 1 to 3 pictures of 112 x 112 pixels each.

    An instruction's text never becomes a special token.
    """

    DROPPED = TEMPLATE_TOKENS
    """Tokens of the template, whose hidden states the pipeline drops."""
    IMAGE_TOKENS = 16
    """Tokens of one picture: 8 x 8 patches of 14 pixels, merged 2 x 2."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vocabulary = self._tokenizer.get_vocab()
        self._ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
        self._heads = {number: self._head(number) for number in range(1, MAX_PICTURES + 1)}
        self._tail = self._tokenizer.encode(TEMPLATE_TAIL).ids
        self._tokenizer.encode_special_tokens = True

    def _head(self, pictures: int) -> list[int]:
        """Everything before the instruction. It ends with a special token, so no merge reaches across."""
        images = IMAGE_TOKEN * self.IMAGE_TOKENS
        named = (f"Picture {number}: <|vision_start|>{images}<|vision_end|>" for number in range(1, pictures + 1))
        ids: list[int] = self._tokenizer.encode(TEMPLATE_HEAD + "".join(named)).ids
        return ids

    def token_id(self, token: str) -> int:
        """The id of a special token. Raises KeyError where there is none of that name."""
        return self._ids[token]

    def encode(self, instruction: str, pictures: int) -> list[int]:
        """Ids of the whole prompt, not padded. Raises KeyError where ``pictures`` is not 1 to 3."""
        return [*self._heads[pictures], *self._tokenizer.encode(instruction).ids, *self._tail]

    def text_tokens(self, pictures: int) -> int:
        """Tokens after the template in a batch about 1 or 2 pictures, padding included."""
        return TEXT_TOKENS[pictures]

    def picture_starts(self, pictures: int) -> tuple[int, ...]:
        """Position of each picture's first image token, counted from the start of the template."""
        return _run_starts(tuple(self._heads[pictures]), self._ids[IMAGE_TOKEN])

    def batch(self, instructions: Sequence[str], pictures: int) -> tuple[Tensor, Tensor]:
        """Ids int64 [N, DROPPED + text_tokens], padded on the right, and how many after the template are valid [N].

        Raises ValueError where a text is longer than ``text_tokens``.
        """
        head, tail = self._heads[pictures], self._tail
        width = self.DROPPED + self.text_tokens(pictures)
        ids = np.full((len(instructions), width), self._ids[PADDING], np.int64)
        ids[:, : len(head)] = head
        lengths = np.zeros(len(instructions), np.int64)
        for row, instruction in enumerate(instructions):
            rest = self._tokenizer.encode(instruction).ids + tail
            end = len(head) + len(rest)
            if end > width:
                raise ValueError(f"{instruction!r} makes a prompt of {end} tokens, at most {width} are allowed")
            ids[row, len(head) : end] = rest
            lengths[row] = end - self.DROPPED
        return torch.from_numpy(ids), torch.from_numpy(lengths)


@cache
def _run_starts(ids: tuple[int, ...], token: int) -> tuple[int, ...]:
    """Where runs of a token begin."""
    return tuple(place for place, found in enumerate(ids) if found == token and (place == 0 or ids[place - 1] != token))
