"""Which tiny autoencoder decodes previews, and what the plan makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from qied_client.errors import ConfigError

from qied.checkpoints.comfyui import Installation, installation
from qied.config import Config
from qied.edit import EditSpec
from qied.link.launch import LaunchOrder
from qied.planning.layout.memory import model_of
from qied.planning.layout.preview_decoder import preview_decoder
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.requests.pace import Pace
from qied.planning.wishes import Wishes
from qied.serving.plan import Served, plan_service
from qied.serving.tiny_autoencoder import TinyAutoencoder, tiny_autoencoder_of
from qied.weights.tiny_autoencoder import TinyDecoderShape
from tests.engine.vae.tiny_files import FULL, SMALL, random_weights, write_tiny
from tests.serving.test_plan import MODELS, REAL, recorded

WIDE = TinyDecoderShape(16, (32, 24, 16, 16), (1, 2, 2))


@pytest.fixture
def comfyui(tmp_path: Path) -> Installation:
    (tmp_path / "ComfyUI" / "models" / "diffusion_models").mkdir(parents=True)
    return installation(tmp_path / "ComfyUI", tmp_path)


@pytest.fixture
def approx(comfyui: Installation) -> Path:
    return comfyui.root / "models" / "vae_approx"


def found(named: str = "auto", folder: Path | None = None, *installations: Installation) -> TinyAutoencoder:
    return tiny_autoencoder_of(named, folder, installations, 16)


def write(path: Path, shape: TinyDecoderShape = SMALL) -> Path:
    return write_tiny(path, random_weights(shape))


def test_without_one_there_is_none_and_nothing_is_said(comfyui: Installation) -> None:
    assert found("auto", None, comfyui) == TinyAutoencoder()


@pytest.mark.parametrize("name", ["taew2_1.safetensors", "sub/TAEW2_1_fp16.safetensors", "wan2.1_tae.sft"])
def test_comfyuis_for_wan_is_found_at_any_depth(comfyui: Installation, approx: Path, name: str) -> None:
    path = write(approx / name)
    tiny = found("auto", None, comfyui)
    assert (tiny.path, tiny.warnings) == (path, ())
    assert tiny.decoder is not None and tiny.decoder.name == path.name


def test_those_of_other_models_are_not_tried_unless_they_are_named(comfyui: Installation, approx: Path) -> None:
    for name in ("taehv.safetensors", "taew2_2.safetensors", "taecvx.safetensors", "taesd_decoder.safetensors"):
        write(approx / name)
    assert found("auto", None, comfyui) == TinyAutoencoder()
    assert found(str(approx / "taehv.safetensors"), None, comfyui).path == approx / "taehv.safetensors"


def test_the_better_one_is_taken_and_the_models_own_before_all(
    comfyui: Installation, approx: Path, tmp_path: Path
) -> None:
    write(approx / "a" / "taew2_1.safetensors")
    better = write(approx / "z" / "lighttaew2_1.safetensors")
    assert found("auto", None, comfyui).path == better
    own = write(tmp_path / "model" / "vae_approx" / "any name.safetensors")
    assert found("auto", tmp_path / "model", comfyui).path == own
    assert found("off", tmp_path / "model", comfyui) == TinyAutoencoder()


def test_one_that_cannot_be_used_is_told_and_the_next_one_is_taken(comfyui: Installation, approx: Path) -> None:
    bad = approx / "lighttaew2_1.safetensors"
    approx.mkdir()
    bad.write_bytes(b"\0" * 50)
    tiny = found("auto", None, comfyui)
    assert tiny.path is None and str(bad) in tiny.warnings[0]
    good = write(approx / "taew2_1.safetensors")
    tiny = found("auto", None, comfyui)
    assert tiny.path == good and len(tiny.warnings) == 1


def test_a_named_file_that_is_wrong_is_a_warning_and_one_that_is_not_there_an_error(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "taew2_1.pth")
    tiny = found(str(tmp_path / "taew2_1.pth"))
    assert tiny.path is None and "pickle" in tiny.warnings[0] and "model.tiny_autoencoder" in tiny.warnings[0]
    with pytest.raises(ConfigError, match="is not a file"):
        found(str(tmp_path / "nothing.safetensors"))


def served(tiny: TinyAutoencoder) -> Served:
    model = replace(MODELS[REAL], tiny=tiny)
    return plan_service(recorded("rtx-4070-ti-12gb"), model, Config(), Wishes(), shipped_hardware_profiles())


def test_the_plan_counts_it_the_ledger_prices_it_and_the_worker_gets_it(tmp_path: Path) -> None:
    tiny = found(str(write(tmp_path / "taew2_1.safetensors", WIDE)))
    plain, made = served(TinyAutoencoder()), served(tiny)
    (order,), (without,) = made.orders, plain.orders
    assert order.checkpoint.tiny_autoencoder == str(tiny.path) and not without.checkpoint.tiny_autoencoder
    assert LaunchOrder.from_line(order.to_line()) == order
    assert order.kind != without.kind
    run, cost = order.execution, tiny.decoder
    assert run.preview_decoder == cost is not None
    small = {
        each: next(part.bytes for part in plans.serving.plans[0].parts if part.name == "small weights")
        for each, plans in (("plain", plain), ("made", made))
    }
    assert small["made"] - small["plain"] == 2 * cost.parameters
    (plan,) = made.serving.plans
    assert any("taew2_1.safetensors" in reason for reason in plan.reasons)
    assert plan.to_json()["previews"] == "taew2_1.safetensors"
    assert plain.serving.plans[0].to_json()["previews"] == "linear"
    memory = model_of(run, MODELS[REAL].profile)
    assert 0 < memory._preview(1 << 20, 1 << 20) <= memory.vae_bytes("decode", 1 << 20, 1 << 20)
    spec = EditSpec(("a",), "x", None, 1, 8, 1.0, 1024, 1024, preview_every=2)
    gflop = [Pace(each.serving).step_gflop(spec) for each in (plain, made)]
    assert gflop[1] - gflop[0] == pytest.approx(cost.operations * 2**20 / 2 / 1e9)
    assert Pace(made.serving).step_gflop(replace(spec, preview_every=0)) == gflop[0]


def test_a_warning_of_its_file_is_one_of_the_plan() -> None:
    (plan,) = served(TinyAutoencoder(warnings=("it is cut",))).serving.plans
    assert "it is cut" in plan.warnings


def test_the_cost_of_the_usual_one_is_what_its_layers_say() -> None:
    """taew2_1.safetensors has 22,642,902 bytes in FP16, of which 1,470,928 numbers are its encoder's."""
    cost = preview_decoder("taew2_1", FULL)
    assert 0 < 22_642_902 - 2 * (cost.parameters + 1_470_928) < 16_384
    assert cost.operations * 2**20 == pytest.approx(1.1e12, rel=0.1)
