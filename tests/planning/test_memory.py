"""The memory model: parts add up, and more work never takes less."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.edit import EditSpec
from qied.planning.edits.workload import workload_of
from qied.planning.layout.forward_layout import Tokens
from qied.planning.layout.memory import MemoryModel, Precisions, Tiles, step_bytes
from qied.planning.profiles.model_profile import shipped_profiles

REAL = shipped_profiles()["qwen-image-edit-2511"]
SPEC = EditSpec(("a" * 64,), "make it blue", None, 1, 20, 1.0, 1024, 1024)
CAP = 1024 * 1024
WHOLE = Tiles(None, None)
NUMERICS = {
    "fp8": Precisions("fp8", "rowwise", "bf16"),
    "fp8-storage": Precisions("fp8-storage", None, "bf16"),
    "fp8-storage-fp32": Precisions("fp8-storage", None, "fp32"),
    "bf16": Precisions("bf16", None, "bf16"),
    "fp32": Precisions("fp32", None, "fp32"),
}
sides = st.integers(1, 128).map(lambda n: n * 16)


def model(name: str, device: str = "cuda") -> MemoryModel:
    return MemoryModel(REAL, NUMERICS[name], device)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("fp8", 13.6), ("fp8-storage", 13.6), ("bf16", 27.2), ("fp32", 54.4)], ids=str
)
def test_sixty_blocks_take_what_was_counted(name, gigabytes):
    assert 60 * model(name).weights("streamed").block == pytest.approx(gigabytes * 1e9, rel=0.005)


def test_a_resident_text_encoder_takes_its_parameters_without_the_language_head():
    assert model("fp8").weights("resident").text_encoder == pytest.approx(2 * (8.292e9 - 0.545e9), rel=0.01)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", sorted(NUMERICS))
@given(width=sides, height=sides, images=st.integers(1, 2))
def test_more_of_anything_never_takes_less_memory(device, name, width, height, images):
    memory = model(name, device)
    spec = replace(SPEC, width=width, height=height, images=("a" * 64,) * images)
    for tiles in (WHOLE, Tiles(512, 512)):
        base = memory.largest_footprint(workload_of(spec, REAL, CAP), tiles, "streamed")
        for larger in (
            replace(spec, width=width + 16),
            replace(spec, images=("a" * 64,) * (images + 1)),
            replace(spec, true_cfg_scale=4.0, negative_prompt=" "),
            replace(spec, mask="b" * 64),
            replace(spec, prompt=spec.prompt + " and more"),
        ):
            grown = memory.largest_footprint(workload_of(larger, REAL, CAP), tiles, "streamed")
            assert grown.state >= base.state
            assert grown.arena >= base.arena


@given(width=sides, height=sides, tile=st.integers(4, 32).map(lambda n: 64 * n), smaller=st.integers(1, 128))
def test_the_largest_footprint_holds_the_edit_and_every_smaller_one(width, height, tile, smaller):
    memory, tiles = model("fp8"), Tiles(tile, tile)
    largest = memory.largest_footprint(
        workload_of(replace(SPEC, width=width, height=height), REAL, CAP), tiles, "streamed"
    )
    for sides_of in ((width, height), (min(width, 16 * smaller), height), (width, min(height, 16 * smaller))):
        spec = replace(SPEC, width=sides_of[0], height=sides_of[1])
        exact = memory.footprint(workload_of(spec, REAL, CAP), tiles, "streamed")
        assert exact.state <= largest.state
        assert exact.arena <= largest.arena


def test_decoding_in_tiles_takes_as_much_as_one_tile_and_the_result():
    memory = model("fp8")
    work = workload_of(replace(SPEC, width=2048, height=2048), REAL, CAP)
    whole = memory.arena(work, WHOLE, "streamed").decode
    tiled = memory.arena(work, Tiles(None, 1088), "streamed").decode
    # Two tiles of 1056 pixels along each side.
    assert tiled == memory.vae_bytes("decode", 2048 * 2048, 1056 * 1056)
    assert tiled < whole / 3


def test_streamed_layers_of_the_text_encoder_are_in_its_arena():
    work = workload_of(SPEC, REAL, CAP)
    memory = model("fp8")
    streamed = memory.arena(work, WHOLE, "streamed").encode_prompt
    resident = memory.arena(work, WHOLE, "resident").encode_prompt
    assert streamed - resident == 2 * 2 * REAL.architecture.text_encoder.layer_parameters


def test_a_step_holds_two_rows_for_each_token_with_its_rotation_and_its_modulation_beside_the_steps_of_others():
    one, two = (step_bytes(model("fp8").shape, [Tokens(0, tokens, 0)]) for tokens in (4096, 2 * 4096))
    assert two - one == 4096 * (2 * 3072 * 2 + 128 * 4)
    assert one - (two - one) == 61 * 3 * 6 * 3072 * 2


def test_host_memory_grows_by_a_block_for_each_that_streams():
    memory = model("fp8")
    block = memory.weights("streamed").block
    assert memory.host_bytes(30, "resident") - memory.host_bytes(0, "resident") == 30 * block
