import gc
import weakref

import pytest
import torch
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope

from qied.engine.transformer.rope import Rope

AXES = (8, 28, 28)
CPU = torch.device("cpu")


@pytest.mark.parametrize("shapes", [[(1, 8, 8)], [(1, 5, 9), (1, 16, 3)], [(1, 4, 4), (1, 6, 6), (1, 3, 20)]])
def test_rotations_are_those_of_diffusers(shapes: list[tuple[int, int, int]]) -> None:
    image, text = QwenEmbedRope(10_000, list(AXES), scale_rope=True)([shapes], max_txt_seq_len=50, device=CPU)
    rotation = Rope(AXES).rotation(shapes, 50, CPU)
    assert torch.equal(rotation.image, image) and torch.equal(rotation.text, text)
    assert rotation.image.dtype == torch.complex64
    assert rotation.image.shape == (sum(rows * columns for _, rows, columns in shapes), 32)


def test_nothing_is_kept_of_earlier_pictures() -> None:
    rope = Rope(AXES)
    first, second = (rope.rotation([(1, 8, 8), (1, 4, 4)], 5, CPU) for _ in range(2))
    assert torch.equal(first.image, second.image)
    assert rope._compute_video_freqs(1, 8, 8, 0, CPU) is not rope._compute_video_freqs(1, 8, 8, 0, CPU)


def test_positions_that_were_used_are_not_kept_by_the_class() -> None:
    rope = Rope([4, 6, 6])
    rope.rotation([(1, 2, 3), (1, 4, 4)], 5, torch.device("cpu"))
    alive = weakref.ref(rope)
    del rope
    gc.collect()
    assert alive() is None
