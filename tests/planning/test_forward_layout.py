"""The arena of a forward: parts of pictures, and tensors that lie beside each other and not in each other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.planning.layout.block_layout import ALIGNMENT, BlockShape
from qied.planning.layout.forward_layout import (
    SCALE_ALIGNMENT,
    SPAN_TOKENS,
    Tokens,
    TransformerShape,
    arena_layout,
    attention_bytes,
    region_bytes,
    scale_begin,
)

FULL = BlockShape(inner_dim=3072, mlp_dim=12288, head_dim=128)
PRECISIONS = ["fp8", "fp8-storage", "bf16"]
tokens = st.builds(Tokens, text=st.integers(1, 3000), target=st.integers(1, 20000), reference=st.integers(0, 30000))


def numbers(precision: str = "fp8") -> TransformerShape:
    return TransformerShape(FULL, 60, precision, "bf16")  # type: ignore[arg-type]


@given(tokens)
def test_parts_cover_all_tokens_and_begin_where_scales_may(given_tokens: Tokens) -> None:
    spans = given_tokens.spans()
    assert spans[0][0] == 0 and spans[-1][1] == given_tokens.all
    assert all(
        end == begin and (end - given_tokens.text) % SCALE_ALIGNMENT == 0 for (_, end), (begin, _) in pairwise(spans)
    )
    assert all(0 < stop - max(start, given_tokens.text) <= SPAN_TOKENS for start, stop in spans)


@given(st.lists(tokens, min_size=1, max_size=4), st.sampled_from(PRECISIONS), st.sampled_from([0, 64]))
def test_tensors_are_aligned_inside_the_arena_and_do_not_overlap(
    forwards: list[Tokens], precision: str, width: int
) -> None:
    layout = arena_layout(numbers(precision), forwards, width)
    assert len(layout.regions) == len(forwards)
    workspace = {entry.name: entry for entry in layout.workspace}
    mlp = [entry for name, entry in workspace.items() if name.startswith("wide")]
    beside = [entry for name, entry in workspace.items() if name != "qkv" and not name.startswith("wide")]
    regions = [entry for region in layout.regions for entry in region]
    for together in ([*beside, workspace["qkv"], *regions], [*beside, *mlp, *regions]):
        ordered = sorted(together, key=lambda entry: entry.offset)
        assert all(one.offset + one.nbytes <= two.offset for one, two in pairwise(ordered))
        assert all(entry.offset % ALIGNMENT == 0 for entry in ordered)
        assert ordered[-1].offset + ordered[-1].nbytes <= layout.nbytes


@given(tokens, st.sampled_from(PRECISIONS), st.sampled_from(["text", "target", "reference"]), st.integers(1, 5000))
def test_more_tokens_never_take_less(base: Tokens, precision: str, kind: str, more: int) -> None:
    grown = Tokens(**{**vars(base), kind: getattr(base, kind) + more})
    for size in (
        lambda each: arena_layout(numbers(precision), [each], 64).nbytes,
        lambda each: attention_bytes(numbers(), each),
    ):
        assert size(grown) >= size(base)


@given(tokens, tokens)
def test_one_more_forward_takes_its_region_where_the_workspace_is_large_enough(one: Tokens, two: Tokens) -> None:
    whole = arena_layout(numbers(), [one, two]).nbytes
    alone = arena_layout(numbers(), [one]).nbytes + region_bytes(numbers(), two)
    assert whole >= alone
    if two.text <= one.text and two.image <= one.image:
        assert whole == alone


@pytest.mark.parametrize(("text", "begin"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_the_images_scales_begin_at_the_next_place_that_kernels_can_read(text: int, begin: int) -> None:
    assert scale_begin(text) == begin
