"""Edits with exact results: an instruction, the scene before and the scene after; sessions; the fixed held-out set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from tools.tiny_model.phrases import capitalised, sample_phrasing
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS, AnyTask
from tools.tiny_model.references import Reference, noun, phrase, sample_reference
from tools.tiny_model.scenes import (
    COLOURS,
    KINDS,
    MAX_SHAPES,
    SIZES,
    Kind,
    Scene,
    Shape,
    free_places,
    is_valid,
    sample_background,
    sample_colour,
    sample_scene,
)
from tools.tiny_model.words import (
    FIRST_PICTURE,
    LANGUAGES,
    OTHER_PICTURE,
    Language,
    background_name,
    colour_name,
    kind_name,
    pick,
    place_at,
    place_to,
    with_article,
)

CHINESE_SHARE = 0.35
"""Share of Chinese instructions where no language is asked for."""
EMPTY_SHARE = 0.1
"""Share of adding and of background edits that start from a scene without shapes."""
HELD_OUT_SEED = 20260
ALL_TASKS: tuple[AnyTask, ...] = (*TASKS, *REFERENCE_TASKS)
# Tasks that are harder to learn, as they turn on a word for a colour or for a kind, come more often.
TASK_WEIGHTS: dict[AnyTask, float] = {
    "recolour": 2.0,
    "remove": 1.0,
    "add": 1.5,
    "replace": 1.5,
    "move": 1.0,
    "grow": 0.5,
    "shrink": 0.5,
    "background": 2.0,
}


@dataclass(frozen=True, slots=True)
class Edit:
    """One instruction and what it makes of a scene. ``reference`` is picture 2, for tasks that take one from it.

    ``held_out_phrase``: training has no sentence like it. ``held_out_combination``: training has no edit of this task
    on a shape of this colour and kind (backgrounds: to these two colours).
    """

    task: AnyTask
    instruction: str
    language: Language
    source: Scene
    target: Scene
    held_out_phrase: bool = False
    held_out_combination: bool = False
    reference: Scene | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """An edit before it is put in words: slots of the sentence, the pair that may be held out."""

    target: Scene
    slots: dict[str, str]
    pair: tuple[int, int]
    reference: Scene | None = None


_Sampler = Callable[[Random, Scene, Language], _Draft]


def is_held_out(task: AnyTask, first: int, second: int) -> bool:
    """Whether this pair (of colour and kind, or of two colours, by index) is kept out of training in this task.

    It takes one pair in seventeen, other ones in each task. A plain background, of one colour twice, is never one.
    """
    plain = task in ("background", "background from") and first == second
    return not plain and (10 * first + second + 5 * ALL_TASKS.index(task)) % 17 == 0


def sample_edit(
    rng: Random,
    task: AnyTask | None = None,
    language: Language | None = None,
    *,
    held_out_phrase: bool = False,
    held_out_combination: bool = False,
) -> Edit:
    """A random edit of a random scene. By default one of ``TASKS`` (by ``TASK_WEIGHTS``), and fit for training."""
    task = task or rng.choices(list(TASK_WEIGHTS), list(TASK_WEIGHTS.values()))[0]
    while True:
        scene = sample_scene(rng, _shape_count(rng, task))
        edit = _attempt(rng, task, language, scene, held_out_phrase, held_out_combination)
        if edit is not None:
            return edit


def _attempt(
    rng: Random,
    task: AnyTask,
    language: Language | None,
    scene: Scene,
    held_out_phrase: bool,
    held_out_combination: bool,
) -> Edit | None:
    """One draft of an edit of ``scene``; None where its result is no valid scene, or its pair is of the other group."""
    language = language or ("zh" if rng.random() < CHINESE_SHARE else "en")
    draft = _SAMPLERS[task](rng, scene, language)
    known = is_held_out(task, *draft.pair) == held_out_combination
    if not known or draft.target == scene or not is_valid(draft.target):
        return None
    sentence = sample_phrasing(rng, task, language, held_out_phrase).format_map(_articled(draft.slots))
    text = capitalised(rng, sentence)
    groups = (held_out_phrase, held_out_combination)
    return Edit(task, text, language, scene, draft.target, *groups, reference=draft.reference)


def _articled(slots: dict[str, str]) -> dict[str, str]:
    return {**slots, "ac": with_article(slots["c"])} if "c" in slots else slots


def _shape_count(rng: Random, task: AnyTask) -> int:
    adds = task in ("add", "add from")
    if task in ("add", "background") and rng.random() < EMPTY_SHARE:
        return 0
    return rng.randint(1, MAX_SHAPES - 1 if adds else MAX_SHAPES)


def sample_session(
    rng: Random, turns: int, language: Language | None = None, *, held_out_phrase: bool = False
) -> tuple[Edit, ...]:
    """Edits in a row, each on the result of the one before, no task twice in a row; one shape at least remains."""
    edits: list[Edit] = []
    scene = sample_scene(rng, rng.randint(2, 3))
    while len(edits) < turns:
        task = rng.choice([task for task in TASKS if not edits or task != edits[-1].task])
        edit = _attempt(rng, task, language, scene, held_out_phrase, held_out_combination=False)
        if edit is not None and edit.target.shapes:
            edits.append(edit)
            scene = edit.target
    return tuple(edits)


def held_out_set(seed: int = HELD_OUT_SEED, tasks: Sequence[AnyTask] = TASKS, per_group: int = 12) -> tuple[Edit, ...]:
    """The fixed set that success is measured on: 384 edits by default, the same for a seed on every machine.

    For each task and language ``per_group`` edits in trained and as many in held-out phrasings; every second edit of
    these has a held-out combination. Each edit has a random state of its own, so that groups do not move each other.
    """
    return tuple(
        sample_edit(
            Random(f"{seed}/{task}/{language}/{held_out_phrase}/{number}"),
            task,
            language,
            held_out_phrase=held_out_phrase,
            held_out_combination=number % 2 == 1,
        )
        for task in tasks
        for language in LANGUAGES
        for held_out_phrase in (False, True)
        for number in range(per_group)
    )


def _pair(shape: Shape) -> tuple[int, int]:
    return COLOURS.index(shape.colour), KINDS.index(shape.kind)


def _subject(rng: Random, scene: Scene, language: Language) -> tuple[Shape, str]:
    """A shape of the scene and a phrase that means it."""
    shape = rng.choice(scene.shapes)
    return shape, phrase(rng, sample_reference(rng, scene, shape), language)


def _with(scene: Scene, before: Shape, after: Shape) -> Scene:
    return replace(scene, shapes=tuple(after if shape == before else shape for shape in scene.shapes))


def _recolour(rng: Random, scene: Scene, language: Language) -> _Draft:
    shape, words = _subject(rng, scene, language)
    colour = sample_colour(rng, {shape.colour, *scene.background.colours})
    slots = {"o": words, "c": colour_name(rng, colour, language)}
    return _Draft(_with(scene, shape, replace(shape, colour=colour)), slots, _pair(shape))


def _remove(rng: Random, scene: Scene, language: Language) -> _Draft:
    shape, words = _subject(rng, scene, language)
    target = replace(scene, shapes=tuple(other for other in scene.shapes if other != shape))
    return _Draft(target, {"o": words}, _pair(shape))


def _add(rng: Random, scene: Scene, language: Language) -> _Draft:
    kind, colour = rng.choice(KINDS), sample_colour(rng, scene.background.colours)
    size = rng.choice((SIZES[0], SIZES[1], SIZES[1], SIZES[1], SIZES[2]))
    shape = Shape(kind, colour, size, rng.choice(free_places(scene)))
    # A shape of no stated size is a medium one.
    said = None if size == "medium" and rng.random() < 0.8 else size
    new = noun(rng, Reference(kind, colour, said), language)
    slots = {"n": with_article(new) if language == "en" else new, **_places(rng, shape, language)}
    return _Draft(replace(scene, shapes=(*scene.shapes, shape)), slots, _pair(shape))


def _places(rng: Random, shape: Shape, language: Language) -> dict[str, str]:
    """Where it is and where it goes, in English at times "of the picture"."""
    whole = rng.choice((" of the picture", " of the image")) if language == "en" and rng.random() < 0.15 else ""
    return {"at": place_at(rng, shape.place, language) + whole, "to": place_to(rng, shape.place, language) + whole}


def _replace(rng: Random, scene: Scene, language: Language) -> _Draft:
    shape, words = _subject(rng, scene, language)
    kind: Kind = rng.choice([kind for kind in KINDS if kind != shape.kind])
    name = kind_name(rng, kind, language)
    slots = {"o": words, "k": with_article(name) if language == "en" else name}
    return _Draft(_with(scene, shape, replace(shape, kind=kind)), slots, _pair(shape))


def _move(rng: Random, scene: Scene, language: Language) -> _Draft:
    shape, words = _subject(rng, scene, language)
    moved = replace(shape, place=rng.choice(free_places(scene)), offset=(0.0, 0.0))
    return _Draft(_with(scene, shape, moved), {"o": words, **_places(rng, moved, language)}, _pair(shape))


def _resize(step: int) -> _Sampler:
    """Grow or shrink by ``step`` sizes; a shape that has no such size is left, which makes the draft void."""

    def sampler(rng: Random, scene: Scene, language: Language) -> _Draft:
        shape, words = _subject(rng, scene, language)
        index = min(max(SIZES.index(shape.size) + step, 0), len(SIZES) - 1)
        return _Draft(_with(scene, shape, replace(shape, size=SIZES[index])), {"o": words}, _pair(shape))

    return sampler


def _background(rng: Random, scene: Scene, language: Language) -> _Draft:
    background = sample_background(rng, {shape.colour for shape in scene.shapes})
    slots = {"b": background_name(rng, background, language)}
    pair = COLOURS.index(background.first), COLOURS.index(background.second)
    return _Draft(replace(scene, background=background), slots, pair)


def _other_picture(rng: Random, language: Language) -> tuple[Scene, Shape, dict[str, str]]:
    """Picture 2, one shape of it, and the words for both."""
    other = sample_scene(rng, 1 if rng.random() < 0.5 else rng.randint(2, 3))
    shape, words = _subject(rng, other, language)
    return other, shape, {"r": words, "two": pick(rng, OTHER_PICTURE[language])}


def _subject_here(rng: Random, scene: Scene, language: Language) -> tuple[Shape, str]:
    """A shape of picture 1, at times said to be of that picture."""
    shape, words = _subject(rng, scene, language)
    if rng.random() >= 0.15:
        return shape, words
    here = pick(rng, FIRST_PICTURE[language])
    return shape, f"{words} of {here}" if language == "en" else f"{here}中的{words}"


def _recolour_like(rng: Random, scene: Scene, language: Language) -> _Draft:
    other, model, slots = _other_picture(rng, language)
    shape, words = _subject_here(rng, scene, language)
    target = _with(scene, shape, replace(shape, colour=model.colour))
    return _Draft(target, {"o": words, **slots}, _pair(shape), other)


def _add_from(rng: Random, scene: Scene, language: Language) -> _Draft:
    """The shape keeps its own size."""
    other, model, slots = _other_picture(rng, language)
    shape = replace(model, place=rng.choice(free_places(scene)), offset=(0.0, 0.0))
    target = replace(scene, shapes=(*scene.shapes, shape))
    return _Draft(target, {**slots, **_places(rng, shape, language)}, _pair(model), other)


def _replace_from(rng: Random, scene: Scene, language: Language) -> _Draft:
    """Kind and colour come from picture 2; place and size stay those of the shape that it replaces."""
    other, model, slots = _other_picture(rng, language)
    shape, words = _subject_here(rng, scene, language)
    target = _with(scene, shape, replace(shape, kind=model.kind, colour=model.colour))
    return _Draft(target, {"o": words, **slots}, _pair(model), other)


def _background_from(rng: Random, scene: Scene, language: Language) -> _Draft:
    other, _, slots = _other_picture(rng, language)
    pair = COLOURS.index(other.background.first), COLOURS.index(other.background.second)
    return _Draft(replace(scene, background=other.background), {"two": slots["two"]}, pair, other)


_SAMPLERS: dict[AnyTask, _Sampler] = {
    "recolour": _recolour,
    "remove": _remove,
    "add": _add,
    "replace": _replace,
    "move": _move,
    "grow": _resize(1),
    "shrink": _resize(-1),
    "background": _background,
    "recolour like": _recolour_like,
    "add from": _add_from,
    "replace from": _replace_from,
    "background from": _background_from,
}
