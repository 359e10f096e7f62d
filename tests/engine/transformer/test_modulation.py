import weakref
from collections.abc import Callable, Generator

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from torch.nn import functional

from benchmarks.part_runs.dense_source import DenseSource
from qied.engine.copying import host_memory
from qied.engine.copying.host_memory import HostBuffer
from qied.engine.transformer.modulation import Modulation
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Transformer
from qied.engine.weights.sources import TensorSource
from qied.resources import builtin_model_folder

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SIGMAS = torch.tensor([1.0, 0.777, 0.3331, 0.02])


def made(making: Generator[tuple[int, int], None, ModulationTable]) -> ModulationTable:
    """Let a table be made to its end."""
    while True:
        try:
            next(making)
        except StopIteration as end:
            table: ModulationTable = end.value
            return table


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(("compute", "tolerance"), [("fp32", 1e-5), ("bf16", 0.01)])
def test_rows_are_what_the_blocks_of_diffusers_compute_at_each_step(
    make_transformer: Callable[..., Transformer], compute: str, tolerance: float
) -> None:
    dtype = DTYPES[compute]
    transformer = make_transformer(precision=compute, compute=compute)
    model = QwenImageTransformer2DModel.from_pretrained(builtin_model_folder() / "transformer", torch_dtype=dtype)
    table = made(transformer.modulation_table(SIGMAS))
    for step, sigma in enumerate(SIGMAS):
        rows = transformer.step_rows(table).step(step)
        time = torch.stack([sigma, sigma * 0]).to(dtype)
        embedding = model.time_text_embed(time, torch.empty(0, dtype=dtype))
        for index, block in enumerate(model.transformer_blocks):
            image, text = block.img_mod(embedding), block.txt_mod(embedding[:1])
            for mine, theirs in ((rows.target, image[0]), (rows.reference, image[1]), (rows.text, text[0])):
                torch.testing.assert_close(mine[index].flatten(), theirs, rtol=tolerance, atol=tolerance)
        scale, shift = model.norm_out.linear(functional.silu(embedding[:1]))[0].chunk(2)
        torch.testing.assert_close(rows.out, torch.stack([scale, shift]), rtol=tolerance, atol=tolerance)


def test_timesteps_are_rounded_to_the_compute_type_first(make_transformer: Callable[..., Transformer]) -> None:
    transformer = make_transformer(precision="bf16", compute="bf16")
    rounded = SIGMAS.bfloat16().float()
    assert not torch.equal(rounded, SIGMAS)
    exact, near = (made(transformer.modulation_table(sigmas)) for sigmas in (SIGMAS, rounded))
    assert torch.equal(exact.steps, near.steps)


@pytest.fixture
def modulation(make_transformer: Callable[..., Transformer]) -> Callable[[int], Modulation]:
    made = make_transformer().modulation

    def limited(limit_bytes: int) -> Modulation:
        return Modulation(made._source, made._embedders, made.layers, made._device, made._dtype, limit_bytes)

    return limited


def test_a_schedule_is_computed_once(modulation: Callable[[int], Modulation]) -> None:
    kept = modulation(1 << 30)
    assert made(kept.table(SIGMAS)) is made(kept.table(SIGMAS.clone()))
    assert made(kept.table(SIGMAS[:2])) is not made(kept.table(SIGMAS))


def test_the_least_recently_used_tables_go_within_the_limit(modulation: Callable[[int], Modulation]) -> None:
    size = made(modulation(0).table(SIGMAS)).nbytes
    kept = modulation(2 * size)
    first, second = made(kept.table(SIGMAS)), made(kept.table(SIGMAS * 0.9))
    assert made(kept.table(SIGMAS)) is first
    dropped = weakref.ref(second)
    del second
    made(kept.table(SIGMAS * 0.8))
    assert kept.host_bytes == 2 * size
    assert made(kept.table(SIGMAS)) is first
    assert dropped() is None


def test_a_table_that_had_to_go_while_an_edit_holds_it_is_found_again(modulation: Callable[[int], Modulation]) -> None:
    size = made(modulation(0).table(SIGMAS)).nbytes
    kept = modulation(size)
    held = made(kept.table(SIGMAS))
    made(kept.table(SIGMAS * 0.9))
    assert kept.host_bytes == 2 * size, "what edits hold counts as well"
    assert made(kept.table(SIGMAS)) is held
    assert kept.host_bytes == size


def test_room_is_made_before_a_new_table_is_allocated(
    modulation: Callable[[int], Modulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = made(modulation(0).table(SIGMAS)).nbytes
    kept = modulation(size)
    first = weakref.ref(made(kept.table(SIGMAS)))
    alive: list[bool] = []
    monkeypatch.setattr(kept, "_embedding", lambda *given: alive.append(first() is not None) or embedding(*given))
    embedding = Modulation._embedding.__get__(kept)
    made(kept.table(SIGMAS * 0.9))
    assert alive == [False]


def test_edits_that_want_the_same_new_table_make_it_together(
    modulation: Callable[[int], Modulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qied.engine.transformer.modulation.BLOCKS_AT_ONCE", 2)
    kept, read = modulation(0), []
    original = kept._linear
    monkeypatch.setattr(kept, "_linear", lambda activated, name: read.append(name) or original(activated, name))
    one, two = kept.table(SIGMAS), kept.table(SIGMAS)
    assert [next(making)[0] for making in (one, two, one)] == [2, 4, 6]
    tables = [made(making) for making in (two, one)]
    assert tables[0] is tables[1]
    assert len(read) == len(set(read)) == 2 * kept.layers
    assert kept.host_bytes == tables[0].nbytes
    assert torch.equal(tables[0].steps, made(modulation(0).table(SIGMAS)).steps)


def test_one_edit_goes_on_with_a_table_that_another_gave_up(
    modulation: Callable[[int], Modulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qied.engine.transformer.modulation.BLOCKS_AT_ONCE", 2)
    kept = modulation(1 << 30)
    one, two = kept.table(SIGMAS), kept.table(SIGMAS)
    assert [next(making)[0] for making in (one, two, one)] == [2, 4, 6]
    one.close()
    del one
    assert torch.equal(made(two).steps, made(modulation(0).table(SIGMAS)).steps)


def test_a_table_larger_than_the_limit_is_made_and_not_kept(modulation: Callable[[int], Modulation]) -> None:
    kept = modulation(100)
    assert torch.equal(made(kept.table(SIGMAS)).steps, made(modulation(1 << 30).table(SIGMAS)).steps)
    assert kept.host_bytes == 0


def test_modulation_weights_are_read_when_a_table_is_made_and_do_not_stay(
    make_transformer: Callable[..., Transformer], transformer_source: TensorSource
) -> None:
    read: list[str] = []

    class Watched(DenseSource):
        component, nbytes = transformer_source.component, transformer_source.nbytes
        names, origin = transformer_source.names, transformer_source.origin

        def read(self, name: str) -> torch.Tensor:
            read.append(name)
            return transformer_source.read(name)

    transformer = make_transformer(Watched())
    names = {name for name in transformer_source.names() if "_mod.1" in name}
    held = sum(weight.nbytes for weight in transformer._embedders.parameters()) + transformer.blocks.device_bytes
    stored = sum(transformer_source.read(name).numel() for name in transformer_source.names())
    assert transformer.device_bytes == held < 0.7 * 4 * stored
    read.clear()
    made(transformer.modulation_table(SIGMAS))
    assert sorted(read) == sorted(names)


def test_a_new_table_comes_in_units_and_a_kept_one_at_once(modulation: Callable[[int], Modulation]) -> None:
    kept = modulation(1 << 30)
    assert list(kept.table(SIGMAS)) == [(kept.layers, kept.layers)]
    assert list(kept.table(SIGMAS)) == []


def test_a_table_that_is_given_up_half_made_is_not_kept(
    modulation: Callable[[int], Modulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qied.engine.transformer.modulation.BLOCKS_AT_ONCE", 2)
    kept = modulation(1 << 30)
    making = kept.table(SIGMAS)
    assert next(making) == (2, kept.layers)
    making.close()
    assert kept.host_bytes == 0
    assert torch.equal(made(kept.table(SIGMAS)).steps, made(modulation(1 << 30).table(SIGMAS)).steps)


def test_where_tables_may_not_be_pinned_that_is_tried_and_told_once(
    modulation: Callable[[int], Modulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    own = host_memory.host_buffers

    def refused(count: int, nbytes: int, device: torch.device, pin: bool) -> list[HostBuffer]:
        asked.append(pin)
        return own(count, nbytes, device, False)

    monkeypatch.setattr("qied.engine.transformer.modulation.host_buffers", refused)
    kept = modulation(0)
    kept._pin = True
    first = made(kept.table(SIGMAS))
    assert torch.equal(first.bytes, made(modulation(0).table(SIGMAS)).bytes)
    made(kept.table(SIGMAS * 0.9))
    assert asked == [True, False, False]
