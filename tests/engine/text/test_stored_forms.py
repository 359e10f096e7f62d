"""Text encoders in every form that files have: computed right where they stream, and mapped, or else counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from qied.checkpoints.file_bytes import copied_text_weights
from qied.checkpoints.llama.vision_tower import files_of_encoder
from qied.checkpoints.names import TOKEN_TABLE, is_streamed_text
from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.engine import models as engine_models
from qied.engine.disk.cache import NO_CACHES, DiskCache, DiskCaches
from qied.engine.engine import Engine, EngineOptions
from qied.engine.text.quantised import PACKED_TEXT
from qied.engine.text.streaming import StreamedTextModel
from qied.engine.weights.sources import FileSource, MappedWeights
from qied.engine.weights.stored_weight import StoredWeight
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from tests.checkpoints.files import write_text_encoder
from tests.checkpoints.gguf_model import write_encoder_gguf

SINGLE_FILES = (
    *("bf16", "fp16", "fp32", "fp8_plain", "fp8_scaled", "fp8_lightx2v", "fp8_mixed"),
    *("int8", "int8_convrot_small", "nvfp4", "mxfp8", "nvfp4_mixed"),
)
TWO_FILES = ("Q8_0 BF16", "Q4_0 F16", "Q5_1 F32", "BF16 F32", "Q8_0 Q8_0")
"""Types of llama.cpp's language model and of its vision tower."""
KINDS = (*SINGLE_FILES, *TWO_FILES)
WHOLLY_QUANTISED = ("fp8_plain", "fp8_scaled", "fp8_lightx2v", "int8", "int8_convrot_small", "nvfp4", "mxfp8")
"""All matrices of all layers."""
QUANTISES = ("bf16", "fp16", "fp32", "BF16 F32")
"""Files of which plans quantise what streams."""
CPU = torch.device("cpu")
Counted = Callable[[], int]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, ...]]:
    written: dict[str, tuple[Path, ...]] = {}

    def run(kind: str) -> tuple[Path, ...]:
        if kind not in written:
            folder = tmp_path_factory.mktemp("encoder")
            if kind in TWO_FILES:
                language, tower = kind.split()
                written[kind] = files_of_encoder(write_encoder_gguf(folder, language, tower=tower)[0])
            else:
                write_text_encoder(folder / "encoder.safetensors", kind)
                written[kind] = (folder / "encoder.safetensors",)
        return written[kind]

    return run


@dataclass(frozen=True)
class Loaded:
    """An engine with a text encoder, and the bytes of what it streams that lie in memory of the process's own."""

    engine: Engine
    copied_bytes: int

    def encoded(self, picture: Image.Image) -> list[Tensor]:
        encoder = self.engine.models.text_encoder
        with torch.inference_mode():
            features = [encoder.vision_features(picture, (112, 84))]
            return [features[0].features, encoder.prompt_embeddings("make it blue", features)]


Load = Callable[..., Loaded]


@pytest.fixture
def load(profile: ModelProfile, execution: Callable[..., Execution], monkeypatch: pytest.MonkeyPatch) -> Load:
    def run(files: tuple[Path, ...], held: str, caches: DiskCaches = NO_CACHES, **changes: Any) -> Loaded:
        copied: list[int] = []
        original = engine_models.stream_text_model

        def watched(model: Any, device: Any, dtype: Any, stored: MappedWeights, watch: Any) -> StreamedTextModel:
            copied.append(sum(each.nbytes for each in held_tensors(model, stored) if not is_of_a_file(each)))
            return original(model, device, dtype, stored, watch)

        monkeypatch.setattr(engine_models, "stream_text_model", watched)
        checkpoint = replace(pipeline_checkpoint(builtin_model_folder()), text_encoder=tuple(map(str, files)))
        options = EngineOptions(execution=execution(text_encoder=held, **changes), caches=caches)
        return Loaded(Engine.load(checkpoint, profile, options, lambda *_: None), sum(copied))

    return run


def held_tensors(model: Any, stored: MappedWeights) -> Iterator[Tensor]:
    for name, parameter in model.named_parameters():
        if is_streamed_text(name) and parameter.device != torch.device("meta"):
            yield parameter
    for form in stored.forms.values():
        yield from (each for each in (form.values, form.block_scale) if each is not None)


def is_of_a_file(tensor: Tensor) -> bool:
    """Whether the bytes of a tensor lie in a mapped file, by what the system says of the process's memory."""
    if not tensor.nbytes:
        return True
    place = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split()
        begin, end = (int(each, 16) for each in span.split("-"))
        if begin <= place < end:
            return inode != "0"
    raise AssertionError("memory that is nowhere")


on_linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")


@on_linux
@pytest.mark.parametrize("kind", KINDS)
def test_what_streams_is_mapped_or_counted_and_computes_as_if_it_were_resident(
    load: Load, write: Callable[[str], tuple[Path, ...]], scene: Callable[..., Image.Image], kind: str
) -> None:
    files, picture = write(kind), scene(160, 120)
    streamed = load(files, "streamed", precision="bf16", compute="bf16")
    counted = copied_text_weights(files, quantised=False)
    assert streamed.copied_bytes == 2 * counted
    resident = load(files, "resident", precision="bf16", compute="bf16")
    weights = resident.engine.models.text_encoder.model.parameters()
    if kind in SINGLE_FILES and kind != "fp32":
        assert counted == 0
    else:
        # Of a tower in 16 bits only Q, K and V, which its file has in pieces.
        assert 0 < counted < (0.1 if kind.endswith("F16") else 1.1) * sum(one.numel() for one in weights)
    assert resident.copied_bytes == 0
    for one, other in zip(streamed.encoded(picture), resident.encoded(picture), strict=True):
        assert torch.equal(one, other)


@on_linux
def test_weights_at_odd_places_of_their_file_are_counted_as_the_copies_that_they_become(
    load: Load, write: Callable[[str], tuple[Path, ...]], tmp_path: Path
) -> None:
    data = write("bf16")[0].read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [place + 1 for place in entry["data_offsets"]]
    header["scaled_fp8"] = {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" + data[8 + size :])
    counted = copied_text_weights([path], quantised=False)
    loaded = load((path,), "streamed", precision="bf16", compute="bf16")
    assert loaded.copied_bytes == 2 * counted
    model = loaded.engine.models.text_encoder.model
    assert counted > sum(each.numel() for each in model.language_model.layers.parameters())


@on_linux
@pytest.mark.parametrize("precision", ["int8-storage", "fp8-storage"])
@pytest.mark.parametrize("kind", QUANTISES)
def test_what_is_quantised_is_not_counted(
    load: Load, write: Callable[[str], tuple[Path, ...]], tmp_path: Path, kind: str, precision: str
) -> None:
    files = write(kind)
    caches = DiskCaches(packed=DiskCache(PACKED_TEXT, tmp_path / "packed", 1 << 26))
    changes = {"precision": "bf16", "compute": "bf16", "text_encoder_precision": precision}
    counted = copied_text_weights(files, quantised=True)
    assert load(files, "streamed", caches, **changes).copied_bytes == 2 * counted
    assert counted < copied_text_weights(files, quantised=False) or kind in ("bf16", "fp16")


@pytest.mark.parametrize("kind", WHOLLY_QUANTISED)
def test_what_is_quantised_in_its_file_stays_as_it_is(
    load: Load, write: Callable[[str], tuple[Path, ...]], tmp_path: Path, kind: str
) -> None:
    caches = DiskCaches(packed=DiskCache(PACKED_TEXT, tmp_path / "packed", 1 << 26))
    loaded = load(write(kind), "streamed", caches, text_encoder_precision="int8-storage")
    assert loaded.engine.models.streamed_text is not None
    assert not list(tmp_path.glob("packed/*.packed"))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_looked_up_as_they_are_expanded(write: Callable[[str], tuple[Path, ...]], kind: str) -> None:
    source = FileSource("text_encoder", list(write(kind)))
    rows = torch.tensor([3, 0, 77, 3, 129, 255])
    for name in source.names():
        weight = source.stored(name)
        if len(weight.shape) == 2 and weight.shape[0] >= 256 and (TOKEN_TABLE in name or ".0." in name):
            for dtype in (torch.float32, torch.bfloat16):
                assert torch.equal(weight.looked_up(rows, dtype), weight.dense().to(dtype)[rows])


@pytest.mark.parametrize("kind", SINGLE_FILES)
def test_a_copy_is_what_the_weight_stands_for_rounded_once(
    write: Callable[[str], tuple[Path, ...]], tmp_path: Path, kind: str
) -> None:
    meant = write_text_encoder(tmp_path / "encoder.safetensors", kind)
    source = FileSource("text_encoder", [tmp_path / "encoder.safetensors"])
    for name, numbers in meant.items():
        weight: StoredWeight = source.stored(name)
        made = weight.copied(CPU, torch.float32)
        torch.testing.assert_close(made.double(), numbers, rtol=1e-6, atol=1e-6)
        assert made.data_ptr() != weight.values.data_ptr()
        assert torch.equal(weight.copied(CPU, torch.bfloat16), made.bfloat16())
