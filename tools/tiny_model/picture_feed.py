"""Turns new edits into what a training step needs, on the device: condition patches, latents, changed tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.tiny_model.feed import FreshEdits, Inlet, Ring, stream
from tools.tiny_model.graphs import capture
from tools.tiny_model.latents import Latents, as_bytes
from tools.tiny_model.render import render
from tools.tiny_model.text_encoder import condition_patches

ROUND_TRIP_SHARE = 4
"""One in so many sources was decoded from its latents before: in a session a source is the output of an edit."""
CHANGED = 0.25
"""A token counts as edited where some channel of source and target differs by more than this (of a deviation)."""

Paint = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Painters:
    """How rows of scenes become pictures."""

    source: Paint = render
    target: Paint = render


class PictureFeed:
    """A ring of prepared examples that new edits flow into.

    Columns: ids, lengths, labels and told as of ``FreshEdits``; patches [pictures, 64, 1176]; with ``latents`` also
    target [256, 64], references [pictures, 256, 64] and changed [256] (1 where the edit changes a token). Patches and
    latents are BF16 on a GPU, FP32 elsewhere.
    """

    def __init__(
        self,
        edits: FreshEdits,
        latents: Latents | None,
        rows: int,
        workers: int,
        device: torch.device,
        painters: Painters = Painters(),
    ) -> None:
        self.edits, self.device = edits, device
        self._latents, self._painters, self._workers = latents, painters, workers
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.ring = Ring(rows - rows % edits.size, device)
        self.number = 0
        self._begin(0)

    def _begin(self, number: int) -> None:
        """Fill the ring with batches from ``number`` on."""
        self.number = number
        self._inlet = Inlet(stream(self.edits, number, self._workers, self.device), self.device)
        self._prepare = capture(self._prepare_once, self.device)
        self.ring.rewind(number * self.edits.size)
        for _ in range(self.ring.rows // self.edits.size):
            self.take()

    def take(self) -> None:
        """Take one new batch into the ring."""
        self._inlet.refill()
        self._prepare()
        self.number += 1

    def resume(self, number: int) -> None:
        """Fill the ring as it was when ``number`` was the next batch."""
        self._begin(number - self.ring.rows // self.edits.size)

    @torch.no_grad()
    def _prepare_once(self) -> None:
        fresh = self._inlet.tensors
        pictures = [as_bytes(self._painters.source(fresh["sources"]))]
        if "references" in fresh:
            pictures.append(as_bytes(self._painters.source(fresh["references"])))
        columns = {name: fresh[name] for name in ("ids", "lengths", "labels", "told")}
        if self._latents is not None:
            pictures[0] = self._round_trip(pictures[0], self._latents)
            target = self._latents.encode(self._painters.target(fresh["targets"]))
            references = torch.stack([self._latents.encode(picture) for picture in pictures], 1)
            changed = (references[:, 0] - target).abs().amax(-1) > CHANGED
            columns |= {
                "target": target.to(self._dtype),
                "references": references.to(self._dtype),
                "changed": changed.float() * fresh["told"][:, None],
            }
        patches = torch.stack([condition_patches(picture) for picture in pictures], 1)
        self.ring.write({**columns, "patches": patches.to(self._dtype)})

    def _round_trip(self, pictures: Tensor, latents: Latents) -> Tensor:
        count = len(pictures) // ROUND_TRIP_SHARE
        if not count:
            return pictures
        again = as_bytes(latents.decode(latents.encode(pictures[:count])))
        return torch.cat([again, pictures[count:]])
