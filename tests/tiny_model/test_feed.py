"""Edits for training: the same batches for a seed, a ring that forgets the oldest, what a step draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tools.tiny_model.denoiser import PICTURE_TOKENS
from tools.tiny_model.feed import UNKNOWN, FreshEdits, Inlet, Ring, stream
from tools.tiny_model.picture_feed import PictureFeed
from tools.tiny_model.text_probe import LABELS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder) -> Path:
    return tokenizer_folder


@pytest.fixture
def edits(tokenizer) -> FreshEdits:
    return FreshEdits(tokenizer, seed=3, size=6, pictures=1, prompt_dropout=0.5)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_batch_is_known_by_its_number(edits):
    assert same(edits[5], replace(edits)[5])
    assert not torch.equal(edits[5]["sources"], edits[6]["sources"])
    assert not torch.equal(edits[5]["sources"], replace(edits, seed=4)[5]["sources"])


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_is_in_order_whatever_draws_it(edits, workers):
    batches = stream(edits, 7, workers, CPU)
    assert all(same(next(batches), edits[number]) for number in (7, 8, 9))


def test_dropped_prompts_have_no_labels(edits):
    batch = edits[0]
    told = batch["told"].bool()
    assert 0 < told.sum() < len(told)
    assert (batch["labels"][~told] == UNKNOWN).all()
    assert (batch["labels"][told][:, 0] >= 0).all()
    assert batch["labels"].shape == (6, len(LABELS))


def test_two_picture_batches_bring_the_second_picture(edits):
    assert "references" not in edits[0]
    assert replace(edits, pictures=2)[0]["references"].shape == edits[0]["sources"].shape


def test_ring_forgets_the_oldest():
    ring = Ring(6, CPU)
    for value in range(5):
        ring.write({"value": torch.full((2,), value)})
    drawn = ring.draw(200)["value"]
    assert set(drawn.tolist()) == {2, 3, 4}


def test_inlet_starts_with_the_first_batch(edits):
    inlet = Inlet(stream(edits, 0, 0, CPU), CPU)
    for number in (0, 1):
        inlet.refill()
        assert same(inlet.tensors, edits[number])


@pytest.mark.parametrize("pictures", [1, 2])
def test_feed_without_latents_gives_prompts_and_patches(edits, pictures):
    feed = PictureFeed(replace(edits, pictures=pictures), None, 12, 0, CPU)
    drawn = feed.ring.draw(3)
    assert set(drawn) == {"ids", "lengths", "labels", "told", "patches"}
    assert drawn["patches"].shape == (3, pictures, 64, 1176)


class HalfLatents:
    """Latents that say how bright a token is; decoding is not exact, so that a round trip shows."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(pictures, 16).mean(1).flatten(1)
        return means[..., None].expand(-1, PICTURE_TOKENS, 64).contiguous()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 3, 256, 256)


def test_feed_marks_changed_tokens_and_takes_some_sources_through_the_codec(edits):
    feed = PictureFeed(replace(edits, size=8, prompt_dropout=0.0), HalfLatents(), 8, 0, CPU)
    columns = feed.ring._columns
    assert columns["target"].shape == (8, PICTURE_TOKENS, 64)
    round_trips = (columns["references"][:, 0] == 0).all((1, 2))
    assert round_trips.tolist() == [True] * 2 + [False] * 6
    distance = (columns["references"][:, 0] - columns["target"]).abs().amax(-1)
    assert torch.equal(columns["changed"].bool(), distance > 0.25)


def test_resumed_feed_holds_what_an_unbroken_one_does(edits):
    unbroken = PictureFeed(edits, None, 12, 0, CPU)
    for _ in range(3):
        unbroken.take()
    resumed = PictureFeed(edits, None, 12, 0, CPU)
    resumed.resume(unbroken.number)
    assert same(unbroken.ring._columns, resumed.ring._columns)
    for feed in (unbroken, resumed):
        feed.take()
    assert same(unbroken.ring._columns, resumed.ring._columns)
