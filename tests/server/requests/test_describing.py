"""What a daemon says that it serves, from its model's profile, its LoRAs and its settings."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from qied_client.pixels.plugins import decodable_formats
from qied_client.protocol import limits
from qied_client.protocol.codec import encode

from qied.config import Config
from qied.edit import EditSpec
from qied.planning.edits.loras import LoraFacts, LoraRoom
from qied.planning.edits.upscaling import UpscalerFacts
from qied.planning.plan import Execution, Plan, Sessions
from qied.planning.profiles.model_profile import ModelProfile, Preset, shipped_profiles
from qied.planning.requests.serving import Serving
from qied.server.requests.describing import description, lora_list, plans_of, upscaler_list

REAL = shipped_profiles()["qwen-image-edit-2511"]
LORAS = {
    "style": LoraFacts(100, 4, rank=16, bytes=123),
    "Lightning-4steps": LoraFacts(200, 64, 4, rank=64, bytes=456),
    "broken": LoraFacts(
        problem="broken.safetensors cannot be used: it is cut off." * 9, remedy="Get another.", bytes=7
    ),
}


def serving(profile: ModelProfile = REAL, precision: str = "bf16", loras: dict[str, LoraFacts] = LORAS) -> Serving:
    run = Execution("cuda", 0, precision, None, "bf16", 60, 60, 0, "resident", None, None, False, 0, 1024 * 1024)
    plan = Plan("m", "card", "profile", precision, None, (), 0, 0, 0, 0, 1 << 20, 1024 * 1024, Sessions(8, 8), run, ())
    return Serving(profile, (plan,), loras=loras, lora_room=LoraRoom(300, 64))


def edit_ms(spec: EditSpec) -> int:
    return spec.forwards * 100


def test_the_model_its_presets_and_the_limits_of_one_user() -> None:
    config = Config.model_validate({"limits": {"jobs_kept_per_user": 9}})
    found = description(5, serving(), config, edit_ms)
    assert (found.re, found.model, found.title, found.model_version) == (5, REAL.name, REAL.title, "2511")
    assert (found.precision, found.max_pixels, found.max_images, found.side_multiple) == ("bf16", 1 << 20, 3, 16)
    assert found.picture_formats == decodable_formats()
    assert [(preset.name, preset.steps, preset.default) for preset in found.presets] == [
        ("preview", 4, False),
        ("draft", 40, True),
        ("final", 50, False),
    ]
    assert all(preset.about == REAL.presets[preset.name].description for preset in found.presets)
    assert [preset.loras for preset in found.presets] == [("Lightning-4steps",), (), ()]
    assert [preset.expected_ms for preset in found.presets] == [
        preset.steps * (2 if preset.true_cfg_scale > 1 else 1) * 100 for preset in found.presets
    ]
    assert (found.loras, found.warnings) == (3, ())
    assert found.stages == ("mask", "edit", "redraw", "refine", "save")
    upscaler = UpscalerFacts("compact", 2, 16, 0, 4, 1, 1000)
    enlarging = description(5, replace(serving(), upscalers={"small": upscaler}), config, edit_ms)
    assert enlarging.stages == ("mask", "edit", "redraw", "refine", "upscale", "save")
    assert found.limits["limits.jobs_kept_per_user"] == 9
    assert set(found.limits) >= {"limits.jobs_waiting_per_user", "limits.sessions_per_user"}


def test_what_speaks_against_a_preset_here() -> None:
    missing = {**REAL.presets, "lost": Preset(steps=4, true_cfg_scale=1.0, description="", loras=("gone",))}
    found = description(1, serving(REAL.model_copy(update={"presets": missing}), "fp8", {}), Config(), edit_ms)
    assert [word in warning for word, warning in zip(("Lightning", "bf16", "gone"), found.warnings, strict=True)] == [
        True
    ] * 3


def test_a_preset_that_is_refused_here_has_no_time() -> None:
    refused = {**REAL.presets, "lost": Preset(steps=4, true_cfg_scale=1.0, description="", loras=("gone",))}
    found = description(1, serving(REAL.model_copy(update={"presets": refused})), Config(), edit_ms)
    assert [preset.name for preset in found.presets if not preset.expected_ms] == ["lost"]


def test_the_plans_are_those_of_the_command_and_fit_a_message() -> None:
    served = serving()
    many = replace(served, plans=tuple(replace(served.plans[0], reasons=("why " * 50,) * 9) for _ in range(99)))
    assert json.loads(plans_of(served)) == [served.plans[0].to_json()]
    assert len(plans_of(many)) < limits.PLANS_BYTES
    assert len(json.loads(plans_of(many))) == 8


def test_loras_in_the_order_of_their_names() -> None:
    found = lora_list(1, LORAS, None).loras
    assert [lora.name for lora in found] == ["Lightning-4steps", "broken", "style"]
    assert [(lora.bytes, lora.rank, lora.steps) for lora in found] == [(456, 64, 4), (7, 0, 0), (123, 16, 0)]
    assert [bool(lora.problem) for lora in found] == [False, True, False]


def test_loras_come_in_pages() -> None:
    many = {f"folder/{number:03}": LoraFacts(1, 1) for number in range(2 * limits.PAGE_LORAS + 1)}
    names: list[str] = []
    more = True
    while more:
        page = lora_list(1, many, names[-1] if names else None)
        names += [lora.name for lora in page.loras]
        more = page.more
    assert names == sorted(many)
    assert lora_list(1, many, names[-1]).loras == ()


@pytest.mark.parametrize("letter", ["x", "ä"])
def test_the_longest_texts_fit_a_message(letter: str) -> None:
    long = letter * 300
    presets = {
        f"preset-{number}" + "x" * 40: Preset(steps=4, true_cfg_scale=1.0, description=long) for number in range(9)
    }
    profile = REAL.model_copy(update={"title": long, "name": long, "presets": presets, "default_preset": "none"})
    encode(description(1, serving(profile), Config(), edit_ms))
    loras = {f"{number:03}" + "n" * 125: LoraFacts(problem=long) for number in range(99)}
    encode(lora_list(1, loras, None))


def test_upscalers_come_in_pages_with_their_scales() -> None:
    facts = {f"{n:03}": UpscalerFacts("A" * 80, 1 + n % 2, 0, 0, 0, 1, 1) for n in range(limits.PAGE_UPSCALERS + 2)}
    offered = replace(serving(), upscalers=facts, upscaler_precisions={"001": "fp16"})
    first = upscaler_list(1, offered, None)
    encode(first)
    assert first.more and [row.name for row in first.upscalers] == sorted(facts)[: limits.PAGE_UPSCALERS]
    assert (first.upscalers[1].scale, first.upscalers[1].precision) == (2, "fp16")
    last = upscaler_list(1, offered, first.upscalers[-1].name)
    assert not last.more and [row.name for row in last.upscalers] == ["032", "033"]
    assert upscaler_list(1, serving(), None).upscalers == ()
