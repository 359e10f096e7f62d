from __future__ import annotations

from random import Random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tools.tiny_model.edits import ALL_TASKS, Edit, sample_edit, sample_session
from tools.tiny_model.scenes import COLOURS, KINDS, PATTERNS, PLACES, SIZES, Background, Scene, Shape
from tools.tiny_model.text_encoder import HIDDEN
from tools.tiny_model.text_probe import ABSENT, LABELS, TextProbe, labels

BEFORE = ("kind before", "colour before", "size before", "place before")
AFTER = ("kind after", "colour after", "size after", "place after")
GROUND = ("pattern", "first colour", "second colour")
CLASSES = {
    "task": ALL_TASKS,
    **dict(zip(BEFORE, (KINDS, COLOURS, SIZES, PLACES), strict=True)),
    **dict(zip(AFTER, (KINDS, COLOURS, SIZES, PLACES), strict=True)),
    **dict(zip(GROUND, (PATTERNS, COLOURS, COLOURS), strict=True)),
}
PRESENT = {
    **dict.fromkeys(ALL_TASKS, (*BEFORE, *AFTER)),
    "remove": BEFORE,
    **dict.fromkeys(("add", "add from"), AFTER),
    **dict.fromkeys(("background", "background from"), GROUND),
}
RED_CIRCLE = Shape("circle", "red", "small", "top left")
BLUE_STAR = Shape("star", "blue", "large", "center")
STRIPES = Background("vertical stripes", "pink", "green")
SCENE = Scene(Background("plain", "white", "white"), (RED_CIRCLE, BLUE_STAR))


def told(edit: Edit) -> dict[str, str]:
    """The labels in words."""
    return {name: CLASSES[name][index] for name, index in zip(LABELS, labels(edit), strict=True) if index != ABSENT}


def edit(task: str, *shapes: Shape, background: Background = SCENE.background) -> Edit:
    return Edit(task, "", "en", SCENE, Scene(background, shapes))


def random_truth(count: int, seed: int = 0) -> torch.Tensor:
    rng = Random(seed)
    return torch.tensor([labels(sample_edit(rng, ALL_TASKS[index % 12])) for index in range(count)])


def test_every_label_has_its_number_of_classes():
    assert {name: len(classes) for name, classes in CLASSES.items()} == LABELS


def test_labels_say_what_becomes_of_which_shape():
    moved = Shape("circle", "red", "small", "bottom")
    before = {"kind before": "circle", "colour before": "red", "size before": "small", "place before": "top left"}
    after = {"kind after": "circle", "colour after": "red", "size after": "small", "place after": "bottom"}
    assert told(edit("move", moved, BLUE_STAR)) == {"task": "move", **before, **after}
    assert told(edit("remove", BLUE_STAR)) == {"task": "remove", **before}
    assert told(edit("add from", RED_CIRCLE, BLUE_STAR, moved)) == {"task": "add from", **after}


def test_labels_of_a_background_say_its_pattern_and_colours():
    changed = edit("background", RED_CIRCLE, BLUE_STAR, background=STRIPES)
    ground = {"pattern": "vertical stripes", "first colour": "pink", "second colour": "green"}
    assert told(changed) == {"task": "background", **ground}


@given(seed=st.integers(0, 10**9), task=st.sampled_from(ALL_TASKS))
def test_each_task_has_the_labels_that_make_sense_for_it(seed, task):
    made = labels(sample_edit(Random(seed), task))
    assert {name for name, index in zip(LABELS, made, strict=True) if index != ABSENT} == {"task", *PRESENT[task]}
    assert all(0 <= index < classes for index, classes in zip(made, LABELS.values(), strict=True) if index != ABSENT)


def test_edits_of_sessions_have_labels():
    for each in sample_session(Random(1), 6):
        assert told(each)["task"] == each.task


def test_logits_do_not_depend_on_padding():
    probe = TextProbe()
    hidden, lengths = torch.randn(3, 24, HIDDEN), torch.tensor([24, 5, 11])
    changed = torch.where(torch.arange(24)[:, None] < lengths[:, None, None], hidden, 100.0)
    for first, second in zip(probe(hidden, lengths), probe(changed, lengths), strict=True):
        torch.testing.assert_close(first, second)
    assert [tuple(each.shape) for each in probe(hidden, lengths)] == [(3, classes) for classes in LABELS.values()]


def test_every_valid_state_can_be_read():
    hidden, lengths = torch.randn(2, 24, HIDDEN, requires_grad=True), torch.tensor([24, 5])
    torch.cat(TextProbe()(hidden, lengths), 1).square().sum().backward()
    read = hidden.grad.abs().sum(-1) > 0
    assert torch.equal(read, torch.arange(24) < lengths[:, None])


def test_the_loss_is_the_mean_over_the_labels_that_are_there():
    truth = random_truth(12)
    logits = [torch.randn(12, classes) for classes in LABELS.values()]
    terms = [
        F.cross_entropy(logits[column][row], truth[row, column])
        for row in range(12)
        for column in range(len(LABELS))
        if truth[row, column] != ABSENT
    ]
    torch.testing.assert_close(TextProbe.loss(logits, truth), torch.stack(terms).mean())


@pytest.mark.parametrize("present", [("task",), ()], ids=["only the task", "nothing"])
def test_labels_that_no_edit_of_a_batch_has_give_no_nan(present):
    probe = TextProbe()
    truth = torch.full((4, len(LABELS)), ABSENT)
    for name in present:
        truth[:, list(LABELS).index(name)] = 1
    loss = probe.loss(probe(torch.randn(4, 8, HIDDEN), torch.full((4,), 8)), truth)
    loss.backward()
    assert loss.isfinite() and bool(loss > 0) == bool(present)
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in probe.parameters())


def test_accuracy_counts_what_is_there():
    truth = torch.tensor([labels(edit("remove", BLUE_STAR)), labels(edit("remove", RED_CIRCLE))])
    logits = [F.one_hot(truth[:, index].clamp(min=0), classes).float() for index, classes in enumerate(LABELS.values())]
    assert TextProbe.accuracy(logits, truth) == dict.fromkeys(("task", *BEFORE, "all"), 1.0)
    wrong = list(LABELS).index("colour before")
    logits[wrong][1] = logits[wrong][1].roll(1)
    expected = {**dict.fromkeys(("task", *BEFORE), 1.0), "colour before": 0.5, "all": 0.5}
    assert TextProbe.accuracy(logits, truth) == expected


def test_loss_and_logits_read_no_values():
    """Tensors without values stand for those on a GPU: whatever waits for a value fails."""
    probe = TextProbe().to("meta")
    logits = probe(torch.zeros(3, 8, HIDDEN, device="meta"), torch.zeros(3, dtype=torch.int64, device="meta"))
    probe.loss(logits, torch.zeros(3, len(LABELS), dtype=torch.int64, device="meta")).backward()


def test_the_probe_learns_to_read_every_label():
    """States that hold each label at a place of its own, under noise."""
    torch.manual_seed(0)
    truth = random_truth(96)
    codes = [torch.randn(classes + 1, HIDDEN) for classes in LABELS.values()]
    hidden = torch.stack([code[column] for code, column in zip(codes, truth.clamp(min=-1).T, strict=True)], 1)
    hidden = hidden + 0.1 * torch.randn_like(hidden)
    lengths = torch.full((96,), len(LABELS))
    probe = TextProbe()
    optimiser = torch.optim.Adam(probe.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        probe.loss(probe(hidden, lengths), truth).backward()
        optimiser.step()
    reached = probe.accuracy(probe(hidden, lengths), truth)
    assert reached.keys() == {*LABELS, "all"}
    assert min(reached.values()) > 0.95
