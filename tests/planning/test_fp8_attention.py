"""Attention in FP8 is planned where it is proven and nobody switched it off; whoever asks is told why it is not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from qied.hardware.snapshot import SelfTest, Snapshot, Trial
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.layout.block_layout import BlockShape
from qied.planning.layout.forward_layout import Tokens, TransformerShape, arena_layout
from qied.planning.layout.memory import model_of
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.serving import kind_of
from qied.planning.wishes import Wishes

PROFILES = shipped_hardware_profiles()
LARGE, SMALL = (shipped_profiles()[name] for name in ("qwen-image-edit-2511", "builtin"))
FAST, WRONG = Trial(ok=True, tflops=500), Trial(ok=False, error="slower than BF16: 1.30 times its time")
SLOW = Trial(ok=True, tflops=300)
Machine = Callable[..., Snapshot]


def planned(machine: Snapshot, trial: Trial | None, *, model=LARGE, rowwise: Trial = FAST, **wishes: object) -> Plan:
    attention = {"cudnn_128": FAST, "flash_128": SLOW} | ({} if trial is None else {"fp8_attention_128": trial})
    test = SelfTest(bf16=SLOW, fp8_rowwise=rowwise, fp8_tensorwise=FAST, fp8_storage=SLOW, attention=attention)
    card = machine.gpus[0].model_copy(update={"selftest": test})
    found = plan(machine.model_copy(update={"gpus": (card,)}), PlanRequest(model, PROFILES, Wishes(**wishes)))  # type: ignore[arg-type]
    assert isinstance(found, Plan)
    return found


def told(found: Plan) -> list[str]:
    return [text for text in (*found.reasons, *found.warnings) if "attention" in text]


def has_package(machine: Snapshot, version: str | None = "1.32.0") -> Snapshot:
    return machine.model_copy(update={"packages": {**machine.packages, "nvidia-cudnn-frontend": version}})


@pytest.mark.parametrize("wish", ["auto", "on"])
def test_where_it_is_proven_it_is_used_and_its_cost_is_told(machine: Machine, wish: str) -> None:
    found = planned(has_package(machine((9, 0), 80)), FAST, fp8_attention=wish)
    assert found.execution.attention == ("fp8", "cudnn", "flash")
    assert found.execution.fp8_attention
    assert told(found) == ["attention in FP8 as well: proven here and faster, at some cost in accuracy"]
    assert found.sources["fp8_attention"] == "the self-test"


@pytest.mark.parametrize(("trial", "wish"), [(FAST, "off"), (WRONG, "off"), (WRONG, "auto"), (None, "auto")])
def test_where_it_is_switched_off_or_not_proven_it_is_not_used(
    machine: Machine, trial: Trial | None, wish: str
) -> None:
    found = planned(has_package(machine((9, 0), 80)), trial, fp8_attention=wish)
    assert found.execution.attention == ("cudnn", "flash")
    assert told(found) == []


@pytest.mark.parametrize(
    ("capability", "wishes", "told_so"),
    [
        ((9, 0), {}, True),
        ((12, 0), {}, True),
        ((8, 9), {}, False),
        ((9, 0), {"fp8_attention": "off"}, False),
        ((9, 0), {"precision": "bf16"}, False),
    ],
)
def test_whoever_lacks_the_package_on_a_card_for_it_is_told(
    machine: Machine, capability: tuple[int, int], wishes: dict[str, object], told_so: bool
) -> None:
    found = planned(has_package(machine(capability, 80), None), WRONG, **wishes)
    assert any("pip install 'nvidia-cudnn-frontend>=" in text for text in told(found)) == told_so


@pytest.mark.parametrize(
    ("trial", "wishes", "why"),
    [
        (None, {}, "attention in FP8 was not run by the self-test"),
        (WRONG, {}, "slower than BF16: 1.30 times its time"),
        (FAST, {"precision": "bf16"}, "and these are bf16"),
        (FAST, {"precision": "fp8-storage"}, "and these are fp8-storage"),
        (FAST, {"rowwise": WRONG}, "and these are FP8 with one scale for all"),
    ],
)
def test_where_it_may_not_be_the_plan_warns(
    machine: Machine, trial: Trial | None, wishes: dict[str, object], why: str
) -> None:
    found = planned(machine((9, 0), 80), trial, fp8_attention="on", **wishes)
    assert found.execution.attention == ("cudnn", "flash")
    (warning,) = [text for text in found.warnings if "attention" in text]
    assert warning.startswith("worker.fp8_attention is on, but the attention is not in FP8: ") and why in warning
    assert "fp8_attention" not in found.sources


def test_without_a_self_test_it_is_not_used(machine: Machine) -> None:
    found = plan(machine((9, 0), 80), PlanRequest(LARGE, PROFILES, Wishes(fp8_attention="on")))
    assert isinstance(found, Plan) and found.precision == "fp8"
    assert found.execution.attention == ()
    assert any("no self-test has proven it" in text for text in found.warnings)


def test_on_a_cpu_nobody_gets_it_who_did_not_ask(machine: Machine) -> None:
    found = plan(machine(), PlanRequest(SMALL, PROFILES, Wishes(device="cpu", precision="fp8")))
    assert isinstance(found, Plan) and found.precision == "fp8"
    assert found.execution.attention == () and told(found) == []


@pytest.mark.parametrize(("precision", "simulated"), [("fp8", True), ("bf16", False), ("auto", False)])
def test_on_a_cpu_it_is_simulated_with_fp8(machine: Machine, precision: str, simulated: bool) -> None:
    wishes = Wishes(device="cpu", precision=precision, fp8_attention="on")  # type: ignore[arg-type]
    found = plan(machine(), PlanRequest(SMALL, PROFILES, wishes))
    assert isinstance(found, Plan)
    assert found.execution.attention == (("fp8",) if simulated else ())
    assert len(told(found)) == 1
    assert bool([text for text in found.warnings if "attention" in text]) != simulated


def test_its_memory_is_planned(machine: Machine) -> None:
    found = planned(machine((9, 0), 80), FAST)
    numbers = model_of(found.execution, LARGE).shape
    assert numbers.fp8_attention
    assert kind_of(found.execution) != kind_of(replace(found.execution, attention=found.execution.attention[1:]))


@pytest.mark.parametrize("image", [100, 8192, 30000])
def test_its_input_lies_behind_qkv_and_mostly_where_the_mlp_works(image: int) -> None:
    numbers = TransformerShape(BlockShape(3072, 12288, 128), 60, "fp8", "bf16")
    tokens = (Tokens(200, image, 0),)
    plain, with_it = arena_layout(numbers, tokens), arena_layout(replace(numbers, fp8_attention=True), tokens)
    entries = {entry.name: entry for entry in with_it.workspace}
    heads, scales = entries["heads"], entries["attention_scales"]
    assert heads.shape == (200 + image, 3 * 3072) and heads.dtype == "e4m3"
    assert entries["qkv"].offset + entries["qkv"].nbytes <= heads.offset < scales.offset
    assert scales.offset + scales.nbytes <= with_it.nbytes
    assert scales.offset % 16 == 0
    assert {"heads", "attention_scales"}.isdisjoint(entry.name for entry in plain.workspace)
    grown = with_it.nbytes - plain.nbytes
    assert grown == 0 if image <= 8192 else 0 < grown <= heads.nbytes + 1024
