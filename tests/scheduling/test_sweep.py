from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qied.scheduling.sweep import StepNeeds, SweepRoom, going_together

LORAS = st.sets(st.sampled_from("xyz")).map(lambda names: dict.fromkeys(names, 5))
NEEDS = st.lists(st.none() | st.builds(StepNeeds, st.integers(1, 60), LORAS), min_size=1, max_size=8)
ROOM = st.builds(SweepRoom, st.integers(0, 150), st.integers(0, 20))


def fits(steps: list[StepNeeds | None], room: SweepRoom) -> bool:
    """Whether these may go together, as the rule is told: all are steps, and their bytes are within the room."""
    there = [step for step in steps if step is not None]
    loras = {name: size for step in there for name, size in step.loras.items()}
    own = sum(step.bytes for step in there)
    return len(there) == len(steps) and own <= room.bytes and sum(loras.values()) <= room.lora_bytes


@given(NEEDS, ROOM)
def test_as_many_go_together_as_fit_from_the_first_on(needs: list[StepNeeds | None], room: SweepRoom) -> None:
    count = going_together(needs, room)
    assert 1 <= count <= len(needs)
    assert count == 1 or fits(needs[:count], room)
    assert count == len(needs) or not fits(needs[: count + 1], room)


def test_a_small_step_does_not_pass_a_large_one() -> None:
    steps = [StepNeeds(40), StepNeeds(70), StepNeeds(10)]
    assert going_together(steps, SweepRoom(100, 0)) == 1
    assert going_together(steps[1:], SweepRoom(100, 0)) == 2


def test_the_first_goes_whatever_it_takes_and_whatever_it_is() -> None:
    assert going_together([StepNeeds(400), StepNeeds(1)], SweepRoom(100, 0)) == 1
    assert going_together([None, StepNeeds(1)], SweepRoom(100, 0)) == 1


def test_the_same_lora_is_there_once_for_all() -> None:
    same, other = StepNeeds(1, {"x": 5}), StepNeeds(1, {"y": 5})
    assert going_together([same, same, same], SweepRoom(100, 5)) == 3
    assert going_together([same, other], SweepRoom(100, 9)) == 1
