import json
from typing import Any

from qied_client.protocol import messages as m


def test_presets_say_what_they_do_and_what_the_daemon_can(run: Any, modern: Any) -> None:
    done = run("presets", "--key", modern.key)
    assert done.returncode == 0, done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[:3] == [
        "Echo model in fp8",
        "  results up to 1.64 megapixels (1280 x 1280)",
        "  1 to 3 pictures in an edit; 2 LoRAs",
    ]
    assert lines[3] == "  pictures as PNG, JPEG, WebP, HEIC"
    assert lines[5].split() == ["preset", "steps", "CFG", "precision", "LoRAs", "about"]
    assert lines[6].startswith("preview ") and "lightning-4steps" in lines[6]
    assert any(line.startswith("draft (default)") for line in lines)
    assert lines[-1] == "warning: It only echoes."
    facts = json.loads(run("presets", "--json", "--key", modern.key).stdout)
    assert [preset["steps"] for preset in facts["presets"]] == [4, 40, 50]
    assert facts["max_pixels"] == 1_638_400


def test_loras_have_the_names_that_an_edit_takes(run: Any, modern: Any) -> None:
    modern.listed_loras = [m.LoraInfo(f"styles/{n:03}", 10**6 * n, 16) for n in range(40)]
    modern.listed_loras += [
        m.LoraInfo("tiny[1]", 1_800_000, 64, steps=4),
        m.LoraInfo("wrong", 5, problem="It is of another model."),
    ]
    done = run("loras", "--key", modern.key)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert len(lines) == 43, "both pages"
    assert lines[0] == "name size rank made for"
    assert lines[-2:] == ["tiny[1] 1.80 MB 64 4 steps, CFG 1", "wrong 5 bytes - not usable: It is of another model."]
    assert len(json.loads(run("loras", "--json", "--key", modern.key).stdout)) == 42


def test_a_daemon_without_loras_says_where_they_come_from(run: Any, modern: Any) -> None:
    assert "model.loras" in run("loras", "--key", modern.key).stdout


def test_upscalers_have_the_names_that_an_edit_takes(run: Any, modern: Any) -> None:
    modern.listed_upscalers = [m.UpscalerInfo(f"{n:03}", 4, "SwinIR", "fp16") for n in range(40)]
    done = run("upscalers", "--key", modern.key)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert len(lines) == 41 and lines[:2] == ["name scale architecture precision", "000 4x SwinIR fp16"]
    facts = json.loads(run("upscalers", "--json", "--key", modern.key).stdout)
    assert facts[-1] == {"name": "039", "scale": 4, "architecture": "SwinIR", "precision": "fp16"}
    modern.listed_upscalers = []
    assert "model.upscalers" in run("upscalers", "--key", modern.key).stdout
