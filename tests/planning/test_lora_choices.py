"""Which LoRAs an edit has, and which schedule, from request, preset and folders."""

from __future__ import annotations

import pytest
from qied_client.errors import InvalidRequest, ModelUnsupported, UnknownLora
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest, LoraChoice

from qied.planning.edits.loras import LoraFacts, LoraRoom
from qied.planning.plan import Execution, Plan, Sessions
from qied.planning.profiles.model_profile import Preset, shipped_profiles
from qied.planning.requests.request_defaults import resolve
from qied.planning.requests.serving import Serving

PRESETS = {
    "final": Preset(steps=40, true_cfg_scale=4.0, description=""),
    "fast": Preset(steps=4, true_cfg_scale=1.0, description="", loras=("Lightning-4steps",), schedule="lightning"),
    "shifted": Preset(steps=4, true_cfg_scale=1.0, description="", schedule="lightning"),
}
REAL = shipped_profiles()["qwen-image-edit-2511"].model_copy(update={"presets": PRESETS, "default_preset": "final"})
LORAS = {
    "style": LoraFacts(100, 4),
    "sub/other": LoraFacts(50, 8),
    "Lightning-4steps": LoraFacts(200, 64, 4),
    "broken": LoraFacts(problem="broken.safetensors cannot be used: it is cut off.", remedy="Get another."),
}


def serving(room=300, **fields):
    run = Execution("cuda", 0, "bf16", None, "bf16", 60, 60, 0, "resident", None, None, False, 0, 1024 * 1024)
    made = Plan("m", "card", "profile", "bf16", None, (), 0, 0, 0, 0, 1 << 20, 1024 * 1024, Sessions(8, 8), run, ())
    return Serving(REAL, (made,), **{"loras": LORAS, "lora_room": LoraRoom(room, 64), **fields})


def resolved(*loras, room=300, **fields):
    choices = tuple(LoraChoice(lora) if isinstance(lora, str) else LoraChoice(*lora) for lora in loras)
    request = EditRequest(("a" * 64,), "do it", 1, loras=choices, **fields)
    return resolve(request, [(1000, 1000)], serving(room))


def test_loras_of_the_preset_come_with_those_of_the_request():
    spec = resolved("style", preset="fast").spec
    assert spec.loras == (LoraChoice("Lightning-4steps"), LoraChoice("style"))
    assert (spec.schedule, spec.steps) == ("lightning", 4)
    assert resolved("style").spec.loras == (LoraChoice("style"),)


def test_the_requests_strength_wins_over_the_presets():
    assert resolved(("Lightning-4steps", 0.5), preset="fast").spec.loras == (LoraChoice("Lightning-4steps", 0.5),)


def test_strength_zero_is_no_lora():
    assert resolved(("style", 0.0), ("Lightning-4steps", 0.0)).spec == resolved().spec


def test_a_preset_may_have_lightnings_schedule_without_a_lora():
    assert resolved(preset="shifted").spec.schedule == "lightning"
    assert resolved().spec.schedule == "model"


def test_a_lightning_lora_brings_its_schedule_and_its_settings_where_no_others_are_asked_for():
    spec = resolved("style", "Lightning-4steps").spec
    assert (spec.schedule, spec.steps, spec.true_cfg_scale, spec.preset) == ("lightning", 4, 1.0, "")
    assert spec.warnings == ()
    given = resolved("Lightning-4steps", steps=6).spec
    assert (given.steps, given.true_cfg_scale, given.preset) == (6, 1.0, "")
    assert resolved(("Lightning-4steps", 0.0)).spec.steps == 40


def test_settings_that_do_not_suit_a_lightning_lora_are_told_with_those_that_do():
    for fields in ({"preset": "final"}, {"steps": 40, "true_cfg_scale": 4.0}):
        found = resolved("Lightning-4steps", **fields)
        assert (found.spec.steps, found.spec.true_cfg_scale) == (40, 4.0)
        assert found.warnings == (
            "Lightning-4steps was made for 4 steps, but this edit has 40. Use 4 steps.",
            "Lightning-4steps was made for a CFG scale of 1, but this edit has 4. Use a CFG scale of 1.",
        )
    assert resolved("Lightning-4steps", steps=4, true_cfg_scale=1.0).warnings == ()
    assert resolved("style").warnings == () and resolved(preset="fast").warnings == ()


@pytest.mark.parametrize(
    ("loras", "error", "said"),
    [
        (("none",), UnknownLora, "There is no LoRA 'none'"),
        ((("none", 0.0),), UnknownLora, "There is no LoRA 'none'"),
        (("broken",), ModelUnsupported, "broken.safetensors cannot be used: it is cut off"),
        (("style", ("style", 0.5)), InvalidRequest, "'style' is named twice"),
        (("style", "sub/other", "Lightning-4steps"), InvalidRequest, "350 parameters together; .* 300"),
    ],
    ids=["unknown", "unknown at 0", "broken", "twice", "too many"],
)
def test_what_cannot_be_used_is_refused(loras, error, said):
    with pytest.raises(error, match=said) as caught:
        resolved(*loras)
    assert caught.value.remedy and caught.value.details["field"] == "loras"


def test_known_loras_are_named_where_one_is_unknown():
    with pytest.raises(UnknownLora) as caught:
        resolved("none")
    assert caught.value.remedy == "Known here: Lightning-4steps, style, sub/other."
    many = {f"l{number:02}": LoraFacts(1, 1) for number in range(20)}
    request = EditRequest(("a" * 64,), "do it", 1, loras=(LoraChoice("none"),))
    with pytest.raises(UnknownLora, match=r"l11 and 8 more\.$"):
        resolve(request, [(9, 9)], serving(loras=many))


def test_a_preset_whose_lora_is_missing_says_so():
    request = EditRequest(("a" * 64,), "do it", 1, preset="fast")
    with pytest.raises(UnknownLora, match="'Lightning-4steps'. The preset 'fast' uses it"):
        resolve(request, [(9, 9)], serving(loras={}))


def test_more_loras_than_an_edit_may_have_with_those_of_the_preset_are_refused():
    names = [f"l{number}" for number in range(limits.LORAS)]
    known = {**LORAS, **dict.fromkeys(names, LoraFacts(1, 1))}
    request = EditRequest(("a" * 64,), "do it", 1, preset="fast", loras=tuple(map(LoraChoice, names)))
    with pytest.raises(InvalidRequest, match=f"at most {limits.LORAS}"):
        resolve(request, [(9, 9)], serving(loras=known))


WANTING = Preset(steps=4, true_cfg_scale=1.0, description="", lightning=4)
REAL_WANTING = REAL.model_copy(update={"presets": {**PRESETS, "preview": WANTING}})


def with_preset(*loras, served=None, **fields):
    request = EditRequest(("a" * 64,), "do it", 1, loras=tuple(map(LoraChoice, loras)), **fields)
    known = Serving(REAL_WANTING, serving().plans, **{"loras": LORAS, **(served or {})})
    return resolve(request, [(1000, 1000)], known)


ROOM = {"lora_room": LoraRoom(300, 64)}


def test_a_preset_for_distilled_weights_takes_the_lora_of_its_steps():
    found = with_preset("style", preset="preview", served=ROOM)
    assert found.spec.loras == (LoraChoice("Lightning-4steps"), LoraChoice("style"))
    assert (found.spec.schedule, found.spec.steps, found.warnings) == ("lightning", 4, ())


def test_a_lightning_lora_that_the_request_names_takes_that_place():
    other = {**LORAS, "A-Lightning-4steps": LoraFacts(100, 4, 4)}
    chosen = with_preset("Lightning-4steps", preset="preview", served={**ROOM, "loras": other})
    assert chosen.spec.loras == (LoraChoice("Lightning-4steps"),)
    first = with_preset(preset="preview", served={**ROOM, "loras": other})
    assert first.spec.loras == (LoraChoice("A-Lightning-4steps"),)


def test_a_lora_for_another_version_is_not_taken_for_this_ones():
    both = {"A-2509-Lightning": LoraFacts(1, 1, 4, "2509"), "B-2511-Lightning": LoraFacts(1, 1, 4, "2511")}
    found = with_preset(preset="preview", served={**ROOM, "loras": both})
    assert found.spec.loras == (LoraChoice("B-2511-Lightning"),)
    del both["B-2511-Lightning"]
    assert with_preset(preset="preview", served={**ROOM, "loras": both}).spec.loras == ()
    both["Z-Lightning"] = LoraFacts(1, 1, 4)
    assert with_preset(preset="preview", served={**ROOM, "loras": both}).spec.loras == (LoraChoice("Z-Lightning"),)


def test_without_such_a_lora_the_preset_runs_and_says_how_to_get_one():
    found = with_preset(preset="preview", served={"loras": {"eight": LoraFacts(1, 1, 8)}})
    assert (found.spec.loras, found.spec.schedule, found.spec.steps) == ((), "model", 4)
    assert "qied pull lightning-4steps" in found.warnings[0]


def test_a_model_that_is_distilled_itself_is_run_as_it_was_made_for():
    served = {**ROOM, "lightning_steps": 4}
    for fields in ({}, {"preset": "preview"}):
        found = with_preset(**fields, served=served)
        assert (found.spec.steps, found.spec.true_cfg_scale, found.spec.schedule) == (4, 1.0, "lightning")
        assert (found.spec.loras, found.warnings) == ((), ())


def test_wrong_settings_for_a_model_that_is_distilled_itself_are_told():
    served = {**ROOM, "lightning_steps": 4}
    assert with_preset(steps=20, served=served).warnings == (
        "This model was made for 4 steps, but this edit has 20. Use 4 steps.",
    )
    assert with_preset(preset="final", served=served).warnings == (
        "This model was made for 4 steps, but this edit has 40. Use 4 steps.",
        "This model was made for a CFG scale of 1, but this edit has 4. Use a CFG scale of 1.",
    )
    beside = with_preset("Lightning-4steps", served=served)
    assert beside.warnings == (
        "Lightning-4steps is used on a model that is already distilled to 4 steps. Leave this LoRA out.",
    )


def test_two_lightning_loras_and_one_of_another_version_are_told():
    known = {"L4-2511": LoraFacts(1, 1, 4, "2511"), "L8-2509": LoraFacts(1, 1, 8, "2509")}
    found = with_preset("L4-2511", "L8-2509", served={**ROOM, "loras": known})
    assert found.spec.steps == 4
    assert found.warnings == (
        "L4-2511 and L8-2509 are Lightning LoRAs, which do not go together. Use only one of them.",
        "L8-2509 is made for 2509, but this model is 2511: it may change too little, or spoil the picture. "
        "Use a Lightning LoRA for 2511.",
    )


def test_a_preset_for_another_precision_is_run_and_told():
    exact = Preset(steps=50, true_cfg_scale=4.0, description="", precision="bf16")
    rough = exact.model_copy(update={"precision": "fp8"})
    profile = REAL.model_copy(update={"presets": {"final": exact, "rough": rough}})
    served = Serving(profile, serving().plans)
    request = EditRequest(("a" * 64,), "do it", 1, preset="rough")
    assert resolve(request, [(9, 9)], served).warnings == (
        "The preset 'rough' is meant for fp8, but this daemon runs bf16. "
        "To avoid that, use the preset 'final', or ask the daemon's owner for fp8.",
    )
    assert resolve(EditRequest(("a" * 64,), "do it", 1, preset="final"), [(9, 9)], served).warnings == ()


def test_presets_of_the_real_model_are_a_preview_a_draft_and_a_final_version():
    presets = shipped_profiles()["qwen-image-edit-2511"].presets
    assert {name: (one.steps, one.true_cfg_scale, one.lightning, one.precision) for name, one in presets.items()} == {
        "preview": (4, 1.0, 4, None),
        "draft": (40, 4.0, None, None),
        "final": (50, 4.0, None, "bf16"),
    }


def test_any_lora_for_another_version_and_one_of_which_a_part_is_not_used_is_warned_of():
    note = "Its part for the text encoder is not used: 2 tensors."
    known = {"old-2509": LoraFacts(1, 1, version="2509"), "new-2511": LoraFacts(1, 1, version="2511", note=note)}
    found = with_preset("old-2509", "new-2511", served={**ROOM, "loras": known})
    assert found.warnings == (
        "old-2509 is made for 2509, but this model is 2511: it may change too little, or spoil the picture. "
        "Use one for 2511.",
        f"new-2511: {note}",
    )


def test_who_names_a_lora_in_a_linked_folder_hears_of_the_link():
    linked = LoraFacts(problem="The folder qwen/linked cannot be used: it is a link.", remedy="Add it to model.loras.")
    with pytest.raises(ModelUnsupported, match="The folder qwen/linked cannot be used") as caught:
        with_preset("qwen/linked/sub/ink", served={**ROOM, "loras": {"qwen/linked": linked}})
    assert caught.value.remedy == "Add it to model.loras."
    with pytest.raises(UnknownLora):
        with_preset("qwen/other", served={**ROOM, "loras": {"qwen/linked": linked}})


def test_a_distilled_model_that_keeps_its_schedule_has_its_steps_and_no_schedule_of_lightning():
    request = EditRequest(("a" * 64,), "do it", 1)
    for keeps, schedule in ((False, "lightning"), (True, "model")):
        spec = resolve(request, [(1000, 1000)], serving(lightning_steps=4, keeps_schedule=keeps)).spec
        assert (spec.schedule, spec.steps, spec.true_cfg_scale) == (schedule, 4, 1.0)
    asked = EditRequest(("a" * 64,), "do it", 1, steps=8, true_cfg_scale=4.0)
    found = resolve(asked, [(1000, 1000)], serving(lightning_steps=4, keeps_schedule=True))
    assert (found.spec.steps, found.spec.schedule) == (8, "model")
    assert "made for 4 steps" in found.warnings[0] and "CFG scale of 1" in found.warnings[1]
