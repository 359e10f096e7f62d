import os
from pathlib import Path

import pytest
import torch
from qied_client.errors import ModelUnsupported
from safetensors.torch import save_file
from torch import nn

from qied.engine.weights.quantise import E4M3
from qied.engine.weights.sources import RELEASE_BYTES, FileSource, WeightReader, check_shape
from qied.engine.weights.stored_weight import StoredWeight

CPU = torch.device("cpu")
WEIGHT, BIAS = "encoder.conv_in.weight", "encoder.conv_in.bias"


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    generator = torch.Generator().manual_seed(0)
    files = (tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    save_file({WEIGHT: torch.randn(3, 2, generator=generator)}, files[0])
    save_file({BIAS: torch.randn(3, generator=generator)}, files[1])
    return FileSource("vae", files)


def module_of(layer: nn.Module) -> nn.Module:
    """A module that has a layer by the names of the files' tensors."""
    encoder = nn.Module()
    encoder.conv_in = layer
    module = nn.Module()
    module.encoder = encoder
    return module


def reader(source: FileSource) -> WeightReader:
    return WeightReader(source.nbytes, lambda *_: None)


def test_tensors_of_all_files_are_found_with_their_files_names(source: FileSource) -> None:
    assert set(source.names()) == {WEIGHT, BIAS}
    assert source.origin(BIAS).endswith("two.safetensors")
    assert source.read(WEIGHT).shape == (3, 2)


def test_a_module_is_filled_cast_and_keeps_its_own_copy(source: FileSource) -> None:
    layer = nn.Linear(2, 3)
    reader(source).fill(module_of(layer), source, source.names(), CPU, torch.bfloat16)
    assert torch.equal(layer.weight, source.read(WEIGHT).bfloat16())
    own = nn.Linear(2, 3)
    reader(source).fill(module_of(own), source, source.names(), CPU, torch.float32)
    source.read(WEIGHT).zero_()
    assert own.weight.abs().min() > 0


def test_what_is_mapped_shares_memory_with_the_file_and_the_rest_is_cast(source: FileSource) -> None:
    layer = nn.Linear(2, 3)
    kept = StoredWeight(source.read(WEIGHT).bfloat16())
    source.stored = lambda name: kept if name == WEIGHT else FileSource.stored(source, name)
    mapped = reader(source).map(module_of(layer), source, source.names(), torch.bfloat16, lambda name: name == WEIGHT)
    assert layer.weight.data_ptr() == kept.values.data_ptr()
    assert layer.bias.dtype == torch.bfloat16
    assert (mapped.scales, mapped.forms) == ({}, {})


def test_what_is_wider_than_16_bits_is_not_mapped(source: FileSource) -> None:
    layer = nn.Linear(2, 3)
    reader(source).map(module_of(layer), source, source.names(), torch.bfloat16, lambda _: True)
    assert layer.weight.dtype == layer.bias.dtype == torch.bfloat16


def test_tensors_that_are_held_outlive_the_closing_of_their_files(source: FileSource) -> None:
    held, before = source.read(WEIGHT), source.read(WEIGHT).clone()
    source.release()
    assert torch.equal(held, before)
    assert torch.equal(source.read(WEIGHT), before)


def test_files_are_let_go_of_while_many_bytes_are_read(source: FileSource) -> None:
    released: list[None] = []
    source.release = lambda: released.append(None)
    progress = reader(source)
    progress._mapped = RELEASE_BYTES - 1
    progress.read(source, BIAS)
    assert not released
    progress.read(source, BIAS)
    assert len(released) == 1


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(2, 3, bias=False), rf"two\.safetensors holds tensors that the model does not have: \['{BIAS}'\]"),
        (nn.BatchNorm1d(3), "vae lacks 3 tensors: .*num_batches_tracked.*running_mean.*running_var"),
        (nn.Linear(3, 3), "vae does not fit the model"),
    ],
    ids=["left-over", "missing", "other-shape"],
)
def test_what_does_not_belong_to_the_module_is_refused(source: FileSource, module: nn.Module, message: str) -> None:
    with pytest.raises(ModelUnsupported, match=message) as raised:
        reader(source).fill(module_of(module), source, source.names(), CPU, torch.float32)
    assert raised.value.remedy


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({WEIGHT: torch.zeros(3, 2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelUnsupported, match=r"one\.safetensors and .*two\.safetensors both hold encoder"):
        FileSource("vae", [tmp_path / "one.safetensors", tmp_path / "two.safetensors"])


def test_numbers_with_a_scale_come_as_they_are_and_multiplied(tmp_path: Path) -> None:
    values = torch.randn(3, 2, 1, 1, 1).to(E4M3)
    file = tmp_path / "w.safetensors"
    save_file({WEIGHT: values, "encoder.conv_in.scale_weight": torch.tensor(0.25)}, file)
    source = FileSource("vae", [file])
    assert set(source.names()) == {WEIGHT}
    stored = source.stored(WEIGHT)
    assert stored.values.dtype == E4M3 and stored.scale is not None and stored.scale.tolist() == [0.25]
    assert torch.equal(source.read(WEIGHT), values.float() * 0.25)
    assert (source.bytes_of("F8_E4M3"), source.bytes_of("I8")) == (6, 0)


def test_a_damaged_file_is_named_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({WEIGHT: torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelUnsupported, match=r"bad\.safetensors cannot be used: it is truncated"):
        FileSource("vae", (path,))


@pytest.mark.parametrize("change", ["longer", "touched", "another", "gone"])
def test_a_file_that_changes_after_it_was_opened_is_not_read_from(
    source: FileSource, tmp_path: Path, change: str
) -> None:
    file = tmp_path / "two.safetensors"
    source.check_unchanged()
    if change == "longer":
        times = file.stat()
        with file.open("ab") as content:
            content.write(b"more")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "touched":
        os.utime(file, ns=(1, 1))
    elif change == "gone":
        file.unlink()
    else:
        times = file.stat()
        copy = tmp_path / "copy"
        copy.write_bytes(file.read_bytes())
        os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
        copy.replace(file)
    for look in (source.check_unchanged, lambda: source.read(BIAS)):
        with pytest.raises(ModelUnsupported, match=r"two\.safetensors changed since it was loaded") as raised:
            look()
        assert "Restart the daemon" in raised.value.remedy
    assert source.read(WEIGHT).shape == (3, 2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_what_is_not_floating_point_is_no_weight(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({WEIGHT: torch.ones(3, 2).to(dtype), BIAS: torch.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelUnsupported, match=rf"w\.safetensors cannot be used: '{WEIGHT}' holds"):
        FileSource("vae", [tmp_path / "w.safetensors"])


def test_a_tensor_of_another_shape_is_named(source: FileSource) -> None:
    with pytest.raises(ModelUnsupported, match=rf"one\.safetensors does not fit the model: {WEIGHT} is \(3, 2\)"):
        check_shape(source, WEIGHT, source.stored(WEIGHT), (2, 3))
    with pytest.raises(ModelUnsupported, match="not floating-point"):
        check_shape(source, WEIGHT, StoredWeight(torch.ones(3, dtype=torch.int32)), (3,))


def test_progress_ends_with_the_bytes_of_the_files(source: FileSource) -> None:
    seen: list[tuple[str, int, int]] = []
    progress = WeightReader(source.nbytes, lambda *state: seen.append(state))
    progress.read(source, WEIGHT)
    progress.read(source, BIAS)
    progress.finish(source, 0)
    assert seen == [("vae", 24, source.nbytes), ("vae", 36, source.nbytes), ("vae", source.nbytes, source.nbytes)]
