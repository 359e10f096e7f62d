import os
from pathlib import Path

import pytest
import torch
from qied_client.errors import ModelUnsupported
from safetensors.torch import save_file
from torch import nn

from qied.engine.checkpoint import WeightFiles
from qied.engine.sources import SafetensorsSource, WeightReader, check_shape

CPU = torch.device("cpu")


@pytest.fixture
def source(tmp_path: Path) -> SafetensorsSource:
    generator = torch.Generator().manual_seed(0)
    files = (tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    save_file({"weight": torch.randn(3, 2, generator=generator)}, files[0])
    save_file({"bias": torch.randn(3, generator=generator)}, files[1])
    return SafetensorsSource(WeightFiles("part", files))


def reader(source: SafetensorsSource) -> WeightReader:
    return WeightReader(source.nbytes, lambda *_: None)


def test_tensors_of_all_files_are_found_with_their_files_names(source: SafetensorsSource) -> None:
    assert set(source.names()) == {"weight", "bias"}
    assert source.origin("bias").endswith("two.safetensors")
    assert source.read("weight").shape == (3, 2)


def test_a_module_is_filled_cast_and_keeps_its_own_copy(source: SafetensorsSource) -> None:
    module = nn.Linear(2, 3)
    reader(source).fill(module, source, source.names(), CPU, torch.bfloat16)
    assert torch.equal(module.weight, source.read("weight").bfloat16())
    own = nn.Linear(2, 3)
    reader(source).fill(own, source, source.names(), CPU, torch.float32)
    source.read("weight").zero_()
    assert own.weight.abs().min() > 0


def test_a_module_that_is_mapped_shares_memory_with_the_file(source: SafetensorsSource) -> None:
    module = nn.Linear(2, 3)
    kept = source.read("weight")
    held = Shared(source, kept)
    reader(source).fill(module, held, held.names(), CPU, None)
    assert module.weight.data_ptr() == kept.data_ptr()


class Shared:
    """A source that gives the same weight each time."""

    def __init__(self, source: SafetensorsSource, weight: torch.Tensor) -> None:
        self.component, self.nbytes, self.names, self.origin = (
            source.component,
            source.nbytes,
            source.names,
            source.origin,
        )
        self.read = lambda name: weight if name == "weight" else source.read(name)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(2, 3, bias=False), r"two\.safetensors holds tensors that the model does not have: \['bias'\]"),
        (nn.BatchNorm1d(3), r"part lacks 3 tensors: \['num_batches_tracked', 'running_mean', 'running_var'\]"),
        (nn.Linear(3, 3), "part does not fit the model"),
    ],
    ids=["left-over", "missing", "other-shape"],
)
def test_what_does_not_belong_to_the_module_is_refused(
    source: SafetensorsSource, module: nn.Module, message: str
) -> None:
    with pytest.raises(ModelUnsupported, match=message) as raised:
        reader(source).fill(module, source, source.names(), CPU, torch.float32)
    assert raised.value.remedy


def test_names_can_be_changed_and_left_out(source: SafetensorsSource) -> None:
    module = nn.Linear(2, 3, bias=False)
    rename = {"weight": "weight", "bias": None}.get
    reader(source).fill(module, source, source.names(), CPU, torch.float32, rename)
    assert torch.equal(module.weight, source.read("weight"))


def test_a_damaged_file_is_named_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"weight": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelUnsupported, match=r"bad\.safetensors is damaged"):
        SafetensorsSource(WeightFiles("part", (path,)))


@pytest.mark.parametrize("change", ["longer", "touched", "another", "gone"])
def test_a_file_that_changes_after_it_was_opened_is_not_read_from(
    source: SafetensorsSource, tmp_path: Path, change: str
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
    for look in (source.check_unchanged, lambda: source.read("bias")):
        with pytest.raises(ModelUnsupported, match=r"two\.safetensors changed since it was loaded") as raised:
            look()
        assert "Restart the daemon" in raised.value.remedy
    assert source.read("weight").shape == (3, 2)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64], ids=str)
def test_what_is_not_floating_point_is_no_weight(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"weight": torch.ones(3, 2).to(dtype), "bias": torch.ones(3)}, tmp_path / "w.safetensors")
    source = SafetensorsSource(WeightFiles("part", (tmp_path / "w.safetensors",)))
    with pytest.raises(ModelUnsupported, match=r"w\.safetensors does not fit the model: weight holds"):
        reader(source).fill(nn.Linear(2, 3), source, source.names(), CPU, torch.float32)
    with pytest.raises(ModelUnsupported, match="weight holds"):
        check_shape(source, "weight", source.read("weight"), (3, 2))


def test_progress_ends_with_the_bytes_of_the_files(source: SafetensorsSource) -> None:
    seen: list[tuple[str, int, int]] = []
    progress = WeightReader(source.nbytes, lambda *state: seen.append(state))
    progress.read(source, "weight")
    progress.read(source, "bias")
    progress.finish(source, 0)
    assert seen == [("part", 24, source.nbytes), ("part", 36, source.nbytes), ("part", source.nbytes, source.nbytes)]
