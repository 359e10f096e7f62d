"""New edits for training: drawn by worker processes as numbers, kept on the device in a ring that steps draw from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tools.tiny_model.edits import Edit, sample_edit
from tools.tiny_model.phrasings import REFERENCE_TASKS
from tools.tiny_model.prompts import Prompts
from tools.tiny_model.render import scene_rows
from tools.tiny_model.text_probe import LABELS, labels

EMPTY_PROMPT = " "
"""What stands for no instruction, as the pipeline's default negative prompt."""
UNKNOWN = -100
"""Label that no loss counts."""

Fresh = dict[str, Tensor]
"""One batch of new edits, tensors on the CPU by name, see ``FreshEdits``."""


@dataclass(frozen=True)
class FreshEdits(Dataset[Fresh]):
    """Batches of ``size`` random edits by number: a batch is the same on every machine and in every process.

    ids int64 [n, tokens], lengths int64 [n] (text tokens after the template), sources, references (with two pictures)
    and targets FP32 [n, ROW], labels int64 [n, labels], told FP32 [n] (0: the prompt was dropped). ``pictures`` is 1 or
    2; with two, picture 2 says what the edit takes from it.
    """

    tokenizer: Path
    seed: int
    size: int
    pictures: int
    prompt_dropout: float

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, number: int) -> Fresh:
        rng = Random(f"{self.seed}/{self.pictures}/{number}")
        edits = [self._sample(rng) for _ in range(self.size)]
        told = [rng.random() >= self.prompt_dropout for _ in edits]
        texts = [edit.instruction if known else EMPTY_PROMPT for edit, known in zip(edits, told, strict=True)]
        ids, lengths = _prompts(self.tokenizer).batch(texts, self.pictures)
        unknown = [UNKNOWN] * len(LABELS)
        fresh = {
            "ids": ids,
            "lengths": lengths,
            "sources": scene_rows([edit.source for edit in edits]),
            "targets": scene_rows([edit.target for edit in edits]),
            "labels": torch.tensor(
                [labels(edit) if known else unknown for edit, known in zip(edits, told, strict=True)]
            ),
            "told": torch.tensor(told, dtype=torch.float32),
        }
        references = [edit.reference for edit in edits if edit.reference is not None]
        return {**fresh, "references": scene_rows(references)} if self.pictures == 2 else fresh

    def _sample(self, rng: Random) -> Edit:
        return sample_edit(rng, rng.choice(REFERENCE_TASKS) if self.pictures == 2 else None)


_LOADED: dict[Path, Prompts] = {}


def _prompts(folder: Path) -> Prompts:
    """One tokenizer for each process."""
    if folder not in _LOADED:
        _LOADED[folder] = Prompts(folder)
    return _LOADED[folder]


def stream(edits: FreshEdits, start: int, workers: int, device: torch.device) -> Iterator[Fresh]:
    """Batches from number ``start`` on, in order, whatever the number of worker processes (0: in this one)."""
    pinned = device.type == "cuda"
    loader = DataLoader(
        edits,
        batch_size=None,
        sampler=range(start, len(edits)),
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )
    return iter(loader)


class Ring:
    """The newest ``rows`` examples on a device; writing and drawing can be recorded in a CUDA graph."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows = rows
        self._device = device
        self._next = torch.zeros((), dtype=torch.long, device=device)
        self._columns: dict[str, Tensor] = {}

    def write(self, values: Mapping[str, Tensor]) -> None:
        """Put n examples in the place of the oldest. The first call decides names, shapes and dtypes."""
        if not self._columns:
            self._columns = {
                name: torch.zeros(self.rows, *value.shape[1:], dtype=value.dtype, device=self._device)
                for name, value in values.items()
            }
        count = len(next(iter(values.values())))
        slots = (self._next + torch.arange(count, device=self._device)) % self.rows
        for name, value in values.items():
            self._columns[name].index_copy_(0, slots, value)
        self._next.add_(count).remainder_(self.rows)

    def rewind(self, slot: int) -> None:
        """Write next to ``slot``."""
        self._next.fill_(slot % self.rows)

    def draw(self, count: int) -> dict[str, Tensor]:
        """``count`` random examples."""
        chosen = torch.randint(0, self.rows, (count,), device=self._device)
        return {name: column.index_select(0, chosen) for name, column in self._columns.items()}


class Inlet:
    """Takes new batches to fixed places on the device, where a recorded step can read them."""

    def __init__(self, batches: Iterator[Fresh], device: torch.device) -> None:
        self._batches = batches
        self._first: Fresh | None = next(batches)
        self.tensors = {name: value.to(device) for name, value in self._first.items()}

    def refill(self) -> None:
        """Take the next batch."""
        fresh, self._first = self._first or next(self._batches), None
        for name, value in fresh.items():
            self.tensors[name].copy_(value, non_blocking=True)
