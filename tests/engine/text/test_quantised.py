"""A text encoder's layers in 8 bits: made once, kept on disk, expanded on the device; and whatever stays as stored."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch
from PIL import Image
from torch import Tensor

from qied.checkpoints.names import TEXT_STACKS
from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.engine.copying.copy_ring import CopyRing
from qied.engine.disk.cache import DiskCache, DiskCaches
from qied.engine.disk.file import PAGE, PackedWriter
from qied.engine.engine import Engine, EngineOptions
from qied.engine.models import Models
from qied.engine.text import quantised
from qied.engine.text.quantised import PACKED_TEXT, quantised_layers
from qied.engine.weights.sources import FileSource, WeightReader
from qied.engine.weights.stored_weight import StoredWeight
from qied.file_lock import try_lock
from qied.planning.edits.workload import largest_workload
from qied.planning.layout.memory import CAST_BYTES, STREAMED_SLOTS, MemoryModel, Precisions
from qied.planning.plan import Execution, TextPrecision
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from tests.checkpoints.files import write_text_encoder

MIB = 1 << 20
CPU = torch.device("cpu")
FORMS: tuple[TextPrecision, ...] = ("int8-storage", "fp8-storage")


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(PACKED_TEXT, tmp_path / "packed", 64 * MIB)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    write_text_encoder(path)
    return path


class Made:
    """The matrices that were found, and how many of them had to be quantised for that."""

    def __init__(self, weights: dict[str, StoredWeight], quantised: int, done: int) -> None:
        # Copies: tests write into the files that they are mapped from.
        self.weights = {name: StoredWeight(one.values.clone(), _scale(one).clone()) for name, one in weights.items()}
        self.quantised, self.done = quantised, done

    def same(self, other: Made) -> bool:
        return self.weights.keys() == other.weights.keys() and all(
            torch.equal(one.values.view(torch.uint8), other.weights[name].values.view(torch.uint8))
            and torch.equal(_scale(one), _scale(other.weights[name]))
            for name, one in self.weights.items()
        )


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    def run(file: Path, cache: DiskCache | None, precision: TextPrecision = "int8-storage") -> Made:
        count: list[int] = []
        original = quantised._quantise
        monkeypatch.setattr(quantised, "_quantise", lambda *given: (count.append(1), original(*given))[1])
        source = FileSource("text_encoder", [file])
        reader = WeightReader(source.nbytes, lambda *_: None)
        found = quantised_layers(source, precision, CPU, reader, cache)
        monkeypatch.setattr(quantised, "_quantise", original)
        return Made(found, len(count), reader.done)

    return run


def _scale(weight: StoredWeight) -> Tensor:
    assert weight.scale is not None
    return weight.scale


def kept(cache: DiskCache) -> list[Path]:
    return sorted(cache.folder.glob("*.packed"))


def matrices(file: Path) -> dict[str, Tensor]:
    source = FileSource("text_encoder", [file])
    return {
        name: source.read(name).double()
        for name in source.names()
        if name.startswith(TEXT_STACKS) and source.read(name).ndim == 2
    }


@pytest.mark.parametrize("precision", FORMS)
def test_every_matrix_of_every_layer_is_within_the_rounding_of_its_form(
    file: Path, cache: DiskCache, make: Callable[..., Made], precision: TextPrecision
) -> None:
    made, meant = make(file, cache, precision), matrices(file)
    assert made.weights.keys() == meant.keys() and len(meant) == 3 * 7 + 2 * 5
    for name, weight in made.weights.items():
        assert weight.values.dtype == quantised._DTYPES[precision]
        scale = _scale(weight).double()[:, None]
        largest = meant[name].abs().amax(1, keepdim=True)
        top = 127 if precision == "int8-storage" else 448
        assert torch.allclose(scale * top, largest, rtol=1e-6, atol=0)
        error = (weight.values.double() * scale - meant[name]).abs()
        # Half a step of INT8; of E4M3 half of the last of three bits, or of its smallest step.
        step = scale / 2 if precision == "int8-storage" else torch.maximum(meant[name].abs() / 16, scale * 2**-10)
        assert (error <= step * (1 + 1e-5)).all()


def test_the_second_start_maps_what_the_first_one_made(file: Path, cache: DiskCache, make: Callable[..., Made]) -> None:
    first, second = make(file, cache), make(file, cache)
    assert (first.quantised, second.quantised) == (31, 0)
    assert second.same(first) and second.done == first.done > 0
    assert len(kept(cache)) == len(TEXT_STACKS)
    other = make(file, cache, "fp8-storage")
    assert other.quantised == 31 and len(kept(cache)) == 2 * len(TEXT_STACKS)
    assert make(file, cache).quantised == 0


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "other header"])
def test_a_damaged_file_is_made_anew(file: Path, cache: DiskCache, make: Callable[..., Made], damage: str) -> None:
    first = make(file, cache)
    path = max(kept(cache), key=lambda one: one.stat().st_size)
    content = path.read_bytes()
    middle = 20 * PAGE
    path.write_bytes(
        {
            "cut": content[:-1],
            "flipped bit": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
            "other header": content[:30] + b"x" + content[31:],
        }[damage]
    )
    again = make(file, cache)
    assert 0 < again.quantised < 31 and again.same(first)
    assert path.read_bytes() == content


def test_another_file_of_weights_is_quantised_anew(file: Path, cache: DiskCache, make: Callable[..., Made]) -> None:
    make(file, cache)
    os.utime(file, ns=(1, 1))
    assert make(file, cache).quantised == 31


def nearly_full(cache: DiskCache) -> DiskCache:
    return replace(cache, free_reserve_bytes=1 << 60)


def too_low(cache: DiskCache) -> DiskCache:
    return replace(cache, limit_bytes=1000)


def not_a_folder(cache: DiskCache) -> DiskCache:
    cache.folder.write_text("")
    return cache


@pytest.mark.parametrize("trouble", [nearly_full, too_low, not_a_folder, None])
def test_where_nothing_can_be_kept_it_is_used_as_stored_and_told(
    file: Path, cache: DiskCache, make: Callable[..., Made], trouble: Callable[[DiskCache], DiskCache] | None
) -> None:
    with structlog.testing.capture_logs() as logs:
        changed = trouble(cache) if trouble else None
        made = make(file, changed)
    assert made.weights == {} and made.quantised == 0
    assert logs[-1]["event"] == "the text encoder is used as it is stored"
    if changed is not None:
        with structlog.testing.capture_logs() as later:
            changed.say_what_is_needed()
        if trouble is too_low:
            there = replace(cache, folder=cache.folder.with_name("enough"))
            make(file, there)
            assert later[0]["needed_bytes"] == sum(path.stat().st_size for path in kept(there)), "of both stacks"
        assert "storage.packed_bytes" in (later or logs)[0]["remedy"]


def test_a_disk_that_fills_up_on_the_way_is_no_error(
    file: Path, cache: DiskCache, make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PackedWriter, "add", fail)
    assert make(file, cache).weights == {}
    assert list(cache.folder.iterdir()) == [cache.folder / "lock"]


@pytest.mark.parametrize("flavour", ["fp8_plain", "fp8_scaled"])
def test_stored_fp8_stays_as_it_is_stored(
    tmp_path: Path, cache: DiskCache, make: Callable[..., Made], flavour: str
) -> None:
    write_text_encoder(tmp_path / "encoder.safetensors", flavour)
    assert make(tmp_path / "encoder.safetensors", cache).weights == {}
    assert not cache.folder.exists()


def test_as_stored_writes_nothing(file: Path, cache: DiskCache, make: Callable[..., Made]) -> None:
    assert make(file, cache, "stored").weights == {}
    assert not cache.folder.exists()


def test_of_two_workers_one_makes_the_files_and_the_other_waits(
    file: Path, cache: DiskCache, make: Callable[..., Made], tmp_path: Path
) -> None:
    elsewhere = replace(cache, folder=tmp_path / "elsewhere")
    first = make(file, elsewhere)
    cache.folder.mkdir()
    descriptor = os.open(cache.folder / "lock", os.O_RDWR | os.O_CREAT)
    assert try_lock(descriptor)
    found: list[Made] = []
    waiting = threading.Thread(target=lambda: found.append(make(file, cache)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    for path in kept(elsewhere):
        path.rename(cache.folder / path.name)
    os.close(descriptor)
    waiting.join(60)
    assert found[0].quantised == 0 and found[0].same(first)


Load = Callable[..., Models]


@pytest.fixture
def load(profile: ModelProfile, execution: Callable[..., Execution], cache: DiskCache) -> Load:
    def run(**changes: object) -> Models:
        options = EngineOptions(
            execution=execution(text_encoder="streamed", **changes), caches=DiskCaches(packed=cache)
        )
        return Engine.load(pipeline_checkpoint(builtin_model_folder()), profile, options, lambda *_: None).models

    return run


def encoded(models: Models, picture: Image.Image, **changes: Any) -> list[Tensor]:
    encoder = replace(models.text_encoder, **changes)
    with torch.inference_mode():
        features = [encoder.vision_features(picture, (112, 84))]
        return [features[0].features, encoder.prompt_embeddings("make it blue", features)]


@pytest.mark.parametrize("precision", FORMS)
def test_layers_compute_what_the_same_weights_give_in_float64(
    load: Load, engine: Engine, cache: DiskCache, scene: Callable[..., Image.Image], precision: TextPrecision
) -> None:
    models, picture = load(text_encoder_precision=precision), scene(160, 120)
    source = FileSource("text_encoder", [builtin_model_folder() / "text_encoder" / "model.safetensors"])
    weights = quantised_layers(source, precision, CPU, WeightReader(1, lambda *_: None), cache)
    exact = copy.deepcopy(engine.models.text_encoder.model).double()
    for name, weight in weights.items():
        exact.get_parameter(name).data = weight.values.double() * _scale(weight).double()[:, None]
    found = encoded(models, picture)
    meant = encoded(engine.models, picture, model=exact, dtype=torch.float64)
    stored = encoded(engine.models, picture)
    for one, other, plain in zip(found, meant, stored, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
        assert (one - plain).norm() > 1e-3 * plain.norm()


def test_bf16_keeps_its_bits(load: Load, load_engine: Callable[..., Engine], scene: Callable[..., Image.Image]) -> None:
    picture = scene(160, 120)
    streamed = encoded(load(precision="bf16", compute="bf16"), picture)
    resident = encoded(load_engine(dtype="bf16").models, picture)
    assert all(torch.equal(one, other) for one, other in zip(streamed, resident, strict=True))


@pytest.mark.parametrize("compute", ["bf16", "fp32"])
def test_what_is_counted_is_what_it_takes(
    load: Load, profile: ModelProfile, scene: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch, compute: str
) -> None:
    rings: list[int] = []
    original = CopyRing.__init__

    def record(self: CopyRing, *given: Any) -> None:
        original(self, *given)
        rings.append(self.nbytes)

    monkeypatch.setattr(CopyRing, "__init__", record)
    numbers = {"precision": compute, "compute": compute}
    plain, made = load(**numbers).streamed_text, load(**numbers, text_encoder_precision="int8-storage")
    encoded(made, scene(160, 120))
    held = made.streamed_text
    assert plain is not None and held is not None
    numerics = Precisions(compute, None, compute)  # type: ignore[arg-type]
    counted = {text: MemoryModel(profile, numerics, "cuda", text_precision=text) for text in ("stored", "int8-storage")}
    rest = {text: model.weights("streamed").rest for text, model in counted.items()}
    assert held.resident_bytes - plain.resident_bytes == rest["int8-storage"] - rest["stored"] > 0
    text = profile.architecture.text_encoder
    layers = [text.layer_matrices.parameters] * text.layers
    blocks = [text.vision_layer_matrices.parameters] * text.vision_layers
    assert plain.host_bytes - held.host_bytes == sum(layers + blocks)
    element = 2 if compute == "bf16" else 4
    expanded = text.layer_matrices.parameters if compute == "bf16" else text.layer_parameters
    slots = counted["int8-storage"]._slots(text.layer_parameters, text.layer_matrices) - CAST_BYTES
    taken = max(rings) + expanded * element
    # Between the tensors of a slot lies what aligns them.
    assert 0 <= taken - slots < STREAMED_SLOTS * 16 * 256
    assert max(rings) == STREAMED_SLOTS * held.slot_bytes
    work = largest_workload(profile, 1 << 16, 1 << 16)
    arenas = {text: model._encode_prompt(work, "streamed") for text, model in counted.items()}
    assert arenas["int8-storage"] - counted["int8-storage"]._encode_prompt(work, "resident") >= slots
