"""``qied plan`` on recorded machines."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from qied.cli.main import main
from qied.cli.plan_view import show_in_short, show_plan
from qied.config import Config
from qied.hardware.snapshot import read_snapshot
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import all_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.wishes import Wishes
from qied.serving.model import without_files
from qied.serving.plan import plan_for

GOLDEN = Path(__file__).parent.parent / "planning" / "golden"


def plan(*arguments, cwd, **environ):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("QIED_")}
    return subprocess.run(
        [sys.executable, "-m", "qied", "plan", *arguments],
        capture_output=True,
        text=True,
        env={**kept, "COLUMNS": "80", "XDG_CONFIG_HOME": str(cwd), **environ},
        cwd=cwd,
        check=False,
        timeout=60,
    )


def snapshot(name):
    return str(GOLDEN / "snapshots" / f"{name}.json")


def test_json_is_the_document_of_the_contract(tmp_path):
    done = plan("--snapshot", snapshot("rtx-4070-ti-12gb"), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((GOLDEN / "plans" / "rtx-4070-ti-12gb.json").read_text())
    assert found["schema"] == 1
    contract = {
        *("model", "gpu", "profile", "precision", "scaling", "reasons", "budget_bytes", "predicted_peak_bytes"),
        *("blocks", "host_bytes", "vae", "max_pixels", "max_reference_pixels", "sessions", "warnings"),
    }
    assert contract <= set(found)
    assert set(found["blocks"]) == {"total", "resident", "streamed"}
    assert set(found["vae"]) == {"encode_tile_px", "decode_tile_px"}
    assert set(found["sessions"]) == {"limit", "at_max_pixels"}


def test_a_refusal_has_exit_status_2_and_says_what_to_do(tmp_path):
    done = plan("--snapshot", snapshot("gtx-1080-8gb"), "--json", cwd=tmp_path)
    assert done.returncode == 2
    refused = json.loads(done.stdout)["refused"]
    assert refused["code"] == "capability_too_old"
    assert refused["message"] and refused["remedy"]
    text = plan("--snapshot", snapshot("gtx-1080-8gb"), cwd=tmp_path)
    assert text.returncode == 2
    assert "capability_too_old" in text.stdout


def test_text_fits_80_columns_and_names_every_source_and_part(tmp_path):
    done = plan("--snapshot", snapshot("rtx-4070-ti-12gb"), cwd=tmp_path)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    text = " ".join(done.stdout.split())
    assert "profile ada-12gb, self-test" in text
    assert "1024 x 1024 px the model" in text
    assert "what is free, less a reserve" in text
    for part in ("B resident blocks", "R ring", "A arena", "S sessions", ". free"):
        assert part in text


def test_the_bar_shows_each_part_at_its_size(tmp_path):
    done = plan("--snapshot", snapshot("rtx-4070-ti-12gb"), cwd=tmp_path)
    bar = next(line for line in done.stdout.splitlines() if line.startswith("VRAM"))
    cells = bar[bar.index("[") + 1 : bar.index("]")]
    found = json.loads((GOLDEN / "plans" / "rtx-4070-ti-12gb.json").read_text())
    blocks = next(part["bytes"] for part in found["parts"] if part["name"] == "resident blocks")
    assert abs(cells.count("B") - len(cells) * blocks / found["budget_bytes"]) <= 1


def test_less_vram_can_be_asked_for_and_is_named_as_the_source(tmp_path):
    done = plan("--snapshot", snapshot("h200-141gb"), "--vram", "8GB", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["budget_bytes"] == 8 * 10**9
    assert found["sources"]["budget_bytes"] == "command line (--vram)"
    assert found["blocks"]["streamed"] > 0
    assert found["max_pixels"] >= 1024 * 1024


def test_a_request_is_priced_or_gets_the_nearest_size_that_fits(tmp_path):
    size = ("--width", "1536", "--height", "1024", "--images", "2", "--cfg", "--json")
    small = json.loads(plan("--snapshot", snapshot("rtx-4060-8gb"), *size, cwd=tmp_path).stdout)
    assert small["request"]["fits"] is False
    nearest = small["request"]["nearest"]
    assert nearest["width"] * nearest["height"] <= small["max_pixels"]
    large = json.loads(plan("--snapshot", snapshot("rtx-4090-24gb"), *size, cwd=tmp_path).stdout)
    assert large["request"]["fits"] is True
    assert large["request"]["predicted_peak_bytes"] <= large["predicted_peak_bytes"]


def test_a_card_can_be_chosen(tmp_path):
    done = plan("--snapshot", snapshot("rtx-4090-and-3060"), "--gpu", "0", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["gpu"] == "NVIDIA GeForce RTX 3060"
    missing = plan("--snapshot", snapshot("rtx-4090-and-3060"), "--gpu", "7", "--json", cwd=tmp_path)
    assert (missing.returncode, json.loads(missing.stdout)["refused"]["code"]) == (2, "no_such_gpu")


def test_cards_that_the_configuration_leaves_out_are_not_planned_for(tmp_path):
    done = plan("--snapshot", snapshot("rtx-4090-and-3060"), "--json", cwd=tmp_path, QIED_MODEL_GPUS="0")
    assert json.loads(done.stdout)["gpu"] == "NVIDIA GeForce RTX 3060"
    missing = plan("--snapshot", snapshot("rtx-4090-and-3060"), "--json", cwd=tmp_path, QIED_MODEL_GPUS="5")
    assert missing.returncode == 2
    assert "model.gpus" in missing.stderr


def test_a_users_own_profile_is_used_and_named(tmp_path):
    folder = tmp_path / "qied" / "profiles" / "hardware"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(
        'name = "mine"\ntitle = "My card"\n[match]\ncapability_from = [8, 9]\nnames = ["4070 Ti"]\n[choose]\n'
        'precision = ["fp8"]\nreserve_bytes = 0\nmax_pixels = 300000\nmax_reference_pixels = 300000\n'
        "session_limit = 2\n"
    )
    found = json.loads(plan("--snapshot", snapshot("rtx-4070-ti-12gb"), "--json", cwd=tmp_path).stdout)
    assert (found["profile"], found["max_pixels"]) == ("mine", 300_000)
    assert found["sources"]["max_pixels"] == "user profile mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--vram", "much"), "is not a size"),
        (("--vram", "12"), "Name a unit"),
        (("--width", "512"), "Only one of"),
        (("--width", "0", "--height", "999"), "0 is not 1 to 8192 pixels"),
        (("--width", "65536", "--height", "16"), "to 8192 pixels"),
        (("--width", "8192", "--height", "16"), "times as long as wide"),
        (("--images", "4"), "takes 1 to 3 pictures"),
        (("--snapshot", "missing.json"), "missing.json"),
        (("--model", "nowhere"), "is not a model"),
    ],
    ids=["size", "unit", "side", "multiple", "largest", "aspect", "images", "snapshot", "model"],
)
def test_bad_arguments_are_told(monkeypatch, capsys, tmp_path, arguments, said):
    # In this process, since nine more starts of the program would show nothing else.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["qied", "plan", "--snapshot", snapshot("h100-80gb"), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_snapshot_with_an_unknown_field_is_refused_with_its_name(tmp_path):
    document = json.loads(Path(snapshot("h100-80gb")).read_text())
    document["host"]["memory_gigabytes"] = 3
    (tmp_path / "bad.json").write_text(json.dumps(document))
    done = plan("--snapshot", "bad.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "host.memory_gigabytes" in done.stderr


def test_a_start_shows_what_the_plan_means_within_eighty_columns():
    settings = Config()
    profile = shipped_profiles()["qwen-image-edit-2511"]
    machine = read_snapshot(Path(snapshot("rtx-3060-12gb")).read_bytes(), "rtx-3060")
    served = without_files(profile, profile.name, settings.model)
    plan = plan_for(machine, served, settings, Wishes(), all_hardware_profiles(None))
    assert isinstance(plan, Plan)
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
    show_in_short(console, [plan, plan], profile.title, 3)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "in FP8 storage on NVIDIA GeForce RTX 3060" in text
    assert "up to 1024 x 1024 px, 8 edits of that size at once" in text
    assert "32 of 60 blocks on the card, 28 streamed in each step" in text
    assert text.count("qied models lists them") == text.count("qied plan") == 1


def test_a_plan_for_a_cpu_speaks_of_the_cpu(tmp_path):
    profile = shipped_profiles()["builtin"]
    machine = read_snapshot(Path(snapshot("cpu-only")).read_bytes(), "cpu-only")
    settings = Config()
    served = without_files(profile, profile.name, settings.model)
    plan = plan_for(machine, served, settings, Wishes(), all_hardware_profiles(None))
    assert isinstance(plan, Plan)
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
    show_plan(console, plan)
    text = " ".join(console.file.getvalue().split())
    assert "builtin on the CPU" in text
    assert "precision fp32" in text
    assert " GiB needed" in text
    assert "why in FP32: the CPU only simulates other precisions" in text


def test_upscalers_are_told_with_their_precision_and_tiles(tmp_path):
    done = plan("--model", "builtin", "--snapshot", snapshot("rtx-4070-ti-12gb"), cwd=tmp_path)
    assert "2x builtin-2x: 2x, compact, FP32, tiles of 128 x 128 px" in " ".join(done.stdout.split())
    found = json.loads(
        plan("--model", "builtin", "--snapshot", snapshot("rtx-4070-ti-12gb"), "--json", cwd=tmp_path).stdout
    )
    (told,) = found["upscalers"]
    assert (told["name"], told["scale"], told["precision"]) == ("builtin-2x", 2, "fp32") and told["tile_bytes"] > 0
    assert found["max_result_pixels"] == 64_000_000


@pytest.mark.parametrize(("name", "there"), [("rtx-4090-24gb", True), ("rtx-4060-8gb", False)])
def test_a_second_precision_is_shown_with_its_memory_or_why_there_is_none(tmp_path, name, there):
    wished = {"QIED_MODEL_SECOND_PRECISION": "bf16", "QIED_MODEL_PRECISION": "fp8-storage"}
    done = plan("--snapshot", snapshot(name), cwd=tmp_path, **wished)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert ("P second precision" in text) == ("passes may name BF16 as well" in text) == there
    assert ("of host memory, and" in text and "are free" in text) == (not there)
