"""Upscaling models by their tensors: each code base's names, scales, and what is not run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from qied_client.errors import InvalidRequest, ModelUnsupported
from safetensors.torch import save_file

from qied.planning.edits.upscaling import (
    LARGEST_TILE_PX,
    SMALLEST_TILE_PX,
    UpscalerFacts,
    chosen_upscaler,
    upscale_bytes,
    upscale_tile,
)
from qied.resources import builtin_upscalers_folder
from qied.upscalers.catalogue import find_upscalers
from qied.upscalers.contents import expected_shapes, facts_of, new_names, read_facts

RRDB = UpscalerFacts("rrdb", 4, 8, 4, 2, 1, 0)
COMPACT = UpscalerFacts("compact", 2, 8, 0, 3, 1, 0)
KINDS = {
    "x4": RRDB,
    "x2": replace(RRDB, scale=2, shuffle=2),
    "x1": replace(RRDB, scale=1, shuffle=4),
    "compact x2": COMPACT,
    "compact x4": replace(COMPACT, scale=4),
}


def weights(facts: UpscalerFacts) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) / 20 for name, shape in expected_shapes(facts).items()}


def old_names(tensors: dict[str, torch.Tensor], doublings: int) -> dict[str, torch.Tensor]:
    """The names of ESRGAN's first release."""
    numbers = {"conv_first": "0", **{f"conv_up{n}": str(3 * n) for n in range(1, doublings + 1)}}
    numbers |= {"conv_hr": str(3 * doublings + 2), "conv_last": str(3 * doublings + 4)}
    renamed = {}
    for name, tensor in tensors.items():
        first, *rest = name.split(".")
        if first == "body":
            block, dense, conv, kind = rest
            renamed[f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"] = tensor
        elif first == "conv_body":
            renamed[f"model.1.sub.2.{rest[0]}"] = tensor
        else:
            renamed[f"model.{numbers[first]}.{rest[0]}"] = tensor
    return renamed


def middle_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of its later code."""
    changes = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
    renamed = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        new = f"RRDB_trunk.{rest.replace('rdb', 'RDB')}" if first == "body" else f"{changes.get(first, first)}.{rest}"
        renamed[new] = tensor
    return renamed


@pytest.mark.parametrize("facts", KINDS.values(), ids=KINDS)
def test_a_model_is_told_by_its_tensors(facts: UpscalerFacts, tmp_path: Path):
    tensors = weights(facts)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    save_file(tensors, tmp_path / "a.safetensors")
    assert read_facts(tmp_path / "a.safetensors") == replace(facts, parameters=parameters)
    torch.save({"params": {}, "params_ema": OrderedDict(tensors)}, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for file in ("a.pth", "old.pth"):
        assert read_facts(tmp_path / file) == replace(facts, parameters=parameters)


@pytest.mark.parametrize("names", [lambda tensors: old_names(tensors, 2), middle_names], ids=["first", "later"])
def test_older_names_of_esrgan_mean_the_same(names):
    tensors = weights(RRDB)
    older = names(tensors)
    found = new_names(older)
    assert {found[name]: tensor.shape for name, tensor in older.items()} == {n: t.shape for n, t in tensors.items()}
    assert not set(older) & set(tensors) - {
        "conv_first.weight",
        "conv_first.bias",
        "conv_last.weight",
        "conv_last.bias",
    }


def test_other_tensors_are_told_apart_and_what_is_no_model_is_refused(tmp_path: Path):
    extra = {**expected_shapes(RRDB), "body.0.rdb1.conv1x1.weight": (4, 8, 1, 1)}
    for shapes in (extra, {}, {"layers.0.qkv.weight": (3, 3)}, {"conv_first.weight": (8, 3, 3, 3)}):
        assert facts_of(shapes) is None, "of another architecture, or none"
    for name, data in (("a.safetensors", b"?"), ("b.pth", b"?" * 100), ("c.pth", b""), ("d.pth", pickle.dumps([1]))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelUnsupported, match=name):
            read_facts(tmp_path / name)


class Evil:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *words: str) -> None:
        self.call = (function, words)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("kind", ["open", "exec", "system"])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(kind: str, tmp_path: Path):
    ran = tmp_path / "ran"
    evil = {
        "open": Evil(open, str(ran), "w"),
        "exec": Evil(exec, f"open({str(ran)!r}, 'w')"),
        "system": Evil(os.system, f"touch {ran}"),
    }[kind]
    torch.save({"conv_first.weight": evil}, tmp_path / "zip.pth")
    torch.save({"conv_first.weight": evil}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("zip.pth", "old.pth"):
        with pytest.raises(ModelUnsupported, match="UnpicklingError"):
            read_facts(tmp_path / name)
    assert not ran.exists()


def test_models_are_found_by_name_and_the_others_say_why_not(tmp_path: Path):
    (tmp_path / "one" / "below").mkdir(parents=True)
    save_file(weights(COMPACT), tmp_path / "one" / "small.safetensors")
    torch.save(weights(RRDB), tmp_path / "one" / "below" / "4x.pth")
    (tmp_path / "one" / "broken.pth").write_bytes(b"?")
    (tmp_path / "one" / "readme.txt").write_text("?")
    save_file({"layers.0.qkv.weight": torch.zeros(3)}, tmp_path / "one" / "other.safetensors")
    found = find_upscalers([tmp_path / "one", tmp_path / "missing", builtin_upscalers_folder()])
    assert set(found.files) == {"small", "below/4x", "builtin-2x"} and found.facts["builtin-2x"].scale == 2
    assert list(found.problems) == [str(tmp_path / "one" / "broken.pth")]
    assert found.others == {"other": str(tmp_path / "one" / "other.safetensors")}
    assert chosen_upscaler("4x", found.facts)[0] == "below/4x"
    assert chosen_upscaler("2x", found.facts)[0] == "builtin-2x"
    assert chosen_upscaler("small", found.facts)[1].scale == 2
    assert chosen_upscaler("auto", found.facts)[0] == "below/4x"
    assert chosen_upscaler("auto", {"builtin-2x": found.facts["builtin-2x"]})[0] == "builtin-2x"
    with pytest.raises(InvalidRequest, match=r"no upscaler '8x'. It has below/4x \(4x\), builtin-2x"):
        chosen_upscaler("8x", found.facts)
    for wanted, near in (("smal", "small"), ("4X", "below/4x"), ("Builtin2x", "builtin-2x")):
        with pytest.raises(InvalidRequest, match=f"Did you mean '{near}'"):
            chosen_upscaler(wanted, found.facts)
    with pytest.raises(InvalidRequest, match="It has none"):
        chosen_upscaler("2x", {})


@pytest.mark.parametrize("facts", KINDS.values(), ids=KINDS)
def test_tiles_are_as_large_as_the_room_allows(facts: UpscalerFacts):
    sizes = [upscale_tile(facts, room) for room in (0, 10**8, 10**9, 10**10)]
    assert sizes == sorted(sizes) and (sizes[0], sizes[-1]) == (SMALLEST_TILE_PX, LARGEST_TILE_PX)
    for room in (10**8, 10**9):
        tile = upscale_tile(facts, room)
        assert upscale_bytes(facts, tile) <= room or tile == SMALLEST_TILE_PX
