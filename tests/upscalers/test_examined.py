"""Upscaling models as processes with torch tell them: described and proven once, kept, and refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qied.hardware.cache import FactCache
from qied.planning.edits.upscaling import UpscalerFacts
from qied.upscalers import examined as module
from qied.upscalers.catalogue import find_upscalers
from qied.upscalers.examined import Examiner, examined
from tests.engine.upscale.test_spandrel import plksr
from tests.hardware.test_selftest import MACHINE
from tests.upscalers.test_contents import COMPACT, weights

CPU_SUITE = "qied.engine.selftest.upscalers:cpu"
CARD = MACHINE.gpus[0].name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in plksr().items()}, folder / "4x-plksr.safetensors")
    save_file({"strange.weight": torch.zeros(3)}, folder / "strange.safetensors")
    save_file(weights(COMPACT), folder / "own.safetensors")
    return folder


@pytest.mark.slow  # two processes import torch
def test_models_are_tried_once_by_processes_and_what_they_say_is_kept(folder: Path, tmp_path: Path) -> None:
    found = find_upscalers([folder])
    assert set(found.files) == {"own"} and set(found.others) == {"4x-plksr", "strange"}
    told: list[str] = []
    cache = FactCache(tmp_path / "cache", "upscalers")
    first = Examiner(os.environ, cache, lambda what, *_: told.append(what), card_suite=CPU_SUITE)
    known = first.examined(found, MACHINE)
    assert set(known.files) == {"own", "4x-plksr"} and set(told) == {"4x-plksr", "strange", "own"}
    plain = UpscalerFacts("PLKSR", 4, 0, 0, 0, 1, sum(value.numel() for value in plksr().values()))
    told_of = known.facts["4x-plksr"]
    counted = {"pixel_bytes": told_of.pixel_bytes, "pixel_operations": told_of.pixel_operations}
    assert min(counted.values()) > 204 and vars(told_of) == {**vars(plain), **counted}
    (reason,) = known.problems.values()
    assert reason.startswith("strange.safetensors cannot be used as an upscaler: spandrel knows no architecture")
    shown = known.proven[CARD]["own"]
    assert shown.precision == "fp16" and set(shown.errors) == {"fp16", "bf16"}
    assert known.on(CARD)["own"].precision == "fp16" and known.on("")["own"].precision == "fp32"

    again = Examiner({}, cache, only_cached=True, card_suite=CPU_SUITE)
    assert again.examined(found, MACHINE) == known
    os.utime(folder / "4x-plksr.safetensors", (1, 1))
    changed = again.examined(found, MACHINE)
    assert set(changed.files) == {"own"}
    assert "was not examined yet" in changed.problems[str(folder / "4x-plksr.safetensors")]


def test_without_spandrel_the_others_say_what_would_know_them(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "version", _missing)
    asks = Examiner({}, FactCache(tmp_path / "cache", "upscalers"), only_cached=True)
    found = asks.examined(find_upscalers([folder]), MACHINE.model_copy(update={"gpus": ()}))
    assert set(found.files) == {"own"} and len(found.problems) == 2
    assert all("pip install --no-deps 'spandrel>=" in reason for reason in found.problems.values())


def _missing(package: str) -> str:
    raise module.PackageNotFoundError(package)


def test_where_the_process_does_not_start_models_run_in_fp32(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "version", _missing)
    asks = Examiner(os.environ, FactCache(tmp_path / "cache", "upscalers"), card_suite="no.such.module:suite")
    found = asks.examined(find_upscalers([folder]), MACHINE)
    assert set(found.files) == {"own"} and found.on(CARD)["own"].precision == "fp32"


def test_where_nothing_has_to_be_asked_nothing_is(monkeypatch) -> None:
    monkeypatch.setattr(module, "user_cache_folder", lambda: pytest.fail("asked"))
    cpu = MACHINE.model_copy(update={"gpus": ()})
    own = find_upscalers([])
    assert examined(own, cpu, {}) is own
