from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import InvalidRequest
from qied_client.protocol import limits
from qied_client.protocol.fields import write
from qied_client.protocol.request import EditRequest, LoraChoice

HASH = "0123456789abcdef" * 4
REQUEST = EditRequest((HASH,), "Make it night.", 7)

AT_THE_LIMIT: dict[str, Any] = {
    "images": (HASH,) * limits.IMAGES,
    "prompt": "ä" * (limits.PROMPT_BYTES // 2),
    "seed": limits.SEED,
    "negative_prompt": "n" * limits.NEGATIVE_PROMPT_BYTES,
    "steps": limits.STEPS,
    "true_cfg_scale": limits.CFG_SCALE,
    "preset": "p" * limits.NAME_CHARS,
    "precision": "p" * limits.NAME_CHARS,
    "loras": (LoraChoice("l" * limits.NAME_CHARS, -4.0),) * limits.LORAS,
    "mask": HASH,
    "output_format": "webp",
    "previews": False,
    "on_cap": "fit",
    "priority": limits.PRIORITY,
    "preemptible": True,
}
BEYOND: list[tuple[str, Any]] = [
    ("images", (HASH,) * (limits.IMAGES + 1)),
    ("images", ("0" * 63,)),
    ("prompt", "ä" * (limits.PROMPT_BYTES // 2) + "a"),
    ("prompt", ""),
    ("prompt", "a\0"),
    ("prompt", "\ud800"),
    ("seed", limits.SEED + 1),
    ("seed", -1),
    ("seed", True),
    ("seed", 10**5000),
    ("negative_prompt", "n" * (limits.NEGATIVE_PROMPT_BYTES + 1)),
    ("steps", limits.STEPS + 1),
    ("steps", 0),
    ("true_cfg_scale", limits.CFG_SCALE + 0.001),
    ("true_cfg_scale", 0.999),
    ("true_cfg_scale", float("nan")),
    ("true_cfg_scale", 10**400),
    ("width", limits.SIDE_PX + 1),
    ("width", 0),
    ("height", limits.SIDE_PX + 1),
    ("preset", "p" * (limits.NAME_CHARS + 1)),
    ("preset", "../up"),
    ("precision", "p" * (limits.NAME_CHARS + 1)),
    ("loras", (LoraChoice("a"),) * (limits.LORAS + 1)),
    ("mask", "mask.png"),
    ("on_cap", "shrink"),
    ("output_format", "gif"),
    ("previews", 1),
    ("priority", limits.PRIORITY + 1),
    ("priority", -limits.PRIORITY - 1),
    ("priority", "urgent"),
    ("preemptible", 1),
]


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_a_value_at_the_limit_is_taken(name: str) -> None:
    request = replace(REQUEST, **{name: AT_THE_LIMIT[name]})
    assert request.validated() == request


def test_all_limits_may_be_used_at_once() -> None:
    request = EditRequest(**AT_THE_LIMIT, width=limits.SIDE_PX, height=1)
    assert request.validated() == request


@pytest.mark.parametrize(("name", "value"), BEYOND, ids=[name for name, _ in BEYOND])
def test_a_value_beyond_the_limit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        replace(REQUEST, **{name: value}).validated()  # type: ignore[arg-type]
    assert str(caught.value.details["field"]).startswith(name)
    assert name in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(("name", "strength"), [("a", 4.1), ("a", -4.1), ("a", float("nan")), ("../a", 1.0), ("", 1.0)])
def test_a_lora_is_a_name_with_a_strength_of_at_most_four(name: str, strength: float) -> None:
    with pytest.raises(InvalidRequest, match=r"loras\[0\]\."):
        replace(REQUEST, loras=(LoraChoice(name, strength),)).validated()


@pytest.mark.parametrize("sides", [{"width": 512}, {"height": 512}])
def test_one_side_alone_is_refused(sides: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="one is missing"):
        EditRequest((HASH,), "x", 1, **sides).validated()


REQUESTS = st.builds(
    EditRequest,
    images=st.lists(st.sampled_from([HASH, "f" * 64]), max_size=3).map(tuple),
    prompt=st.sampled_from(["a", "b", "1"]),
    seed=st.integers(0, 3),
    negative_prompt=st.sampled_from([None, "", "a"]),
    steps=st.sampled_from([None, 1, 2]),
    true_cfg_scale=st.sampled_from([None, 1, 1.0, 2.0]),
    preset=st.sampled_from([None, "a", "b"]),
    precision=st.sampled_from([None, "a", "b"]),
    loras=st.lists(st.builds(LoraChoice, st.sampled_from(["a", "b"]), st.sampled_from([1, 1.0])), max_size=2).map(
        tuple
    ),
    mask=st.sampled_from([None, HASH]),
    on_cap=st.sampled_from(["refuse", "fit"]),
    output_format=st.sampled_from(["png", "webp"]),
    previews=st.booleans(),
    priority=st.sampled_from([-1, 0, 1]),
    preemptible=st.booleans(),
).map(EditRequest.validated)


@given(REQUESTS, REQUESTS)
def test_payload_hashes_are_equal_exactly_where_the_requests_are(one: EditRequest, other: EditRequest) -> None:
    assert (one.payload_hash() == other.payload_hash()) == (one == other)
    assert one.payload_hash() == replace(one).payload_hash()


def test_the_payload_hash_of_protocol_1_does_not_change() -> None:
    expected = "3221fc601fb5ec4397d99f1db6734332ced76666c8829f50497b76c074666004"
    assert REQUEST.payload_hash() == expected


def test_a_request_without_a_priority_is_written_as_before_there_were_priorities() -> None:
    assert "priority" not in write(REQUEST)
    assert write(replace(REQUEST, priority=3)) == {**write(REQUEST), "priority": 3}
