"""LoRAs are loaded when they are needed, kept within the limit, and refused by name where they cannot be used."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from qied_client.errors import InvalidRequest, ModelUnsupported, UnknownLora
from qied_client.protocol.request import LoraChoice

from qied.engine.lora import library as library_module
from qied.engine.lora.branches import BlockLoras
from qied.engine.lora.library import LoraLibrary
from qied.loras.catalogue import Catalogue, find_loras
from qied.planning.profiles.model_profile import ModelProfile

Library = Callable[..., LoraLibrary]
Write = Callable[..., dict[str, Any]]
ONE, TWO, MOVED = LoraChoice("one"), LoraChoice("two"), LoraChoice("moved")


@pytest.fixture
def size(catalogue: Catalogue) -> Callable[[str], int]:
    """Bytes of a LoRA in FP32."""
    return lambda name: 4 * catalogue.facts[name].parameters


def test_what_is_on_the_device_is_what_planning_counts(library: Library, size: Callable[[str], int]) -> None:
    known = library()
    for choice, kept in ((ONE, ("one",)), (MOVED, ("one", "moved"))):
        known.branches([choice])
        assert known.device_bytes == sum(size(name) for name in kept)
    half = library(dtype=torch.bfloat16)
    half.branches([ONE])
    assert half.device_bytes == size("one") // 2


def test_a_lora_is_loaded_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    known, loads = library(), []
    load = library_module.load_lora
    monkeypatch.setattr(library_module, "load_lora", lambda *given: loads.append(1) or load(*given))
    first = known.branches([ONE])[0].image.qkv[0].branch
    assert known.branches([LoraChoice("one", 0.3), TWO])[0].image.qkv[0].branch is first
    assert list(known.load([ONE, TWO])) == []
    assert len(loads) == 2


def test_loading_comes_in_units_of_one_lora(library: Library) -> None:
    known = library()
    assert list(known.load([ONE, TWO])) == [(1, 2), (2, 2)]
    assert list(known.load([ONE, MOVED])) == [(1, 1)]


def test_the_least_recently_used_lora_makes_way_and_frees_its_memory(
    library: Library, size: Callable[[str], int]
) -> None:
    known = library(size("one") + size("two"))
    dropped = weakref.ref(known.branches([TWO])[1].image.out[0].branch.down)
    known.branches([ONE])
    known.branches([MOVED])
    assert dropped() is None
    assert known.device_bytes <= size("one") + size("two")


def test_what_had_to_make_way_comes_back_the_same(library: Library, size: Callable[[str], int]) -> None:
    known = library(size("one"))
    first = known.branches([ONE])[3].text.down[0].branch.down.clone()
    known.branches([TWO])
    assert torch.equal(known.branches([ONE])[3].text.down[0].branch.down, first)
    assert known.device_bytes == size("one")


def test_loras_of_one_edit_stay_beside_each_other(library: Library, size: Callable[[str], int]) -> None:
    known = library(size("one") + size("moved"))
    known.branches([TWO])
    blocks = known.branches([ONE, MOVED])
    assert [len(block.image.qkv) for block in blocks] == [2] * 6
    assert known.device_bytes == size("one") + size("moved")


def test_more_than_the_limit_together_is_refused_before_anything_is_loaded(
    library: Library, size: Callable[[str], int]
) -> None:
    known = library(size("one"))
    known.check([ONE])
    with pytest.raises(InvalidRequest, match=f"{size('one')} are reserved for LoRAs") as caught:
        known.check([ONE, TWO])
    assert "worker.loras_at_once" in caught.value.remedy
    assert known.device_bytes == 0


def test_a_name_that_is_not_there_is_unknown(library: Library) -> None:
    with pytest.raises(UnknownLora, match="'three'"):
        library().check([LoraChoice("three")])


def test_only_loras_of_the_modulation_change_it(library: Library) -> None:
    shares = library().modulation([ONE, LoraChoice("moved", 0.5)])
    assert [share.key for share in shares] == [("moved", 0.5)]


@pytest.fixture
def single(tmp_path: Path, profile: ModelProfile, write_lora: Write) -> Callable[..., LoraLibrary]:
    """A library of one LoRA, named a, whose tensors may be changed before they are written."""

    def make(**options: Any) -> LoraLibrary:
        write_lora(tmp_path / "a.safetensors", **options)
        files = find_loras([tmp_path], profile.architecture).files
        return LoraLibrary(files, profile.architecture, torch.device("cpu"), torch.float32, 1 << 30)

    return make


def test_a_lora_of_the_modulation_alone_takes_nothing_on_the_device(single: Callable[..., LoraLibrary]) -> None:
    known = single(modules=("img_mod.1",))
    known.check([LoraChoice("a")])
    assert list(known.load([LoraChoice("a")])) == [(1, 1)]
    assert known.branches([LoraChoice("a")]) == (BlockLoras(),) * 6
    assert known.device_bytes == 0 and len(known.modulation([LoraChoice("a")])) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["lora_down.weight", "lora_up.weight", "alpha"])
def test_values_that_are_no_numbers_are_refused_by_tensor(
    single: Callable[..., LoraLibrary], value: float, part: str
) -> None:
    name = f"transformer_blocks.2.attn.to_out.0.{part}"

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[-1] = value

    known = single(style="lightning", alpha=2.0, change=spoil)
    known.check([LoraChoice("a")])
    with pytest.raises(ModelUnsupported, match=f"a.safetensors cannot be used: {name} holds values") as caught:
        known.branches([LoraChoice("a")])
    assert caught.value.remedy
    assert known.device_bytes == 0


def test_a_file_that_changed_since_the_daemon_started_is_refused(
    single: Callable[..., LoraLibrary], tmp_path: Path
) -> None:
    known = single()
    os.utime(tmp_path / "a.safetensors", ns=(1, 1))
    for refused in (known.check, known.branches):
        with pytest.raises(ModelUnsupported, match="has changed since the daemon started"):
            refused([LoraChoice("a")])
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(ModelUnsupported, match="gone"):
        known.check([LoraChoice("a")])
