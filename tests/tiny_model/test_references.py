from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tools.tiny_model.references import Reference, phrase, references, sample_reference
from tools.tiny_model.scenes import Background, Scene, Shape, sample_scene
from tools.tiny_model.words import KIND_NAMES, LANGUAGES, PLACE_NAMES, Language

RED_CIRCLE = Shape("circle", "red", "small", "top left")
BLUE_CIRCLE = Shape("circle", "blue", "large", "right")
RED_STAR = Shape("star", "red", "medium", "bottom")
SCENE = Scene(Background("plain", "white", "white"), (RED_CIRCLE, BLUE_CIRCLE, RED_STAR))


@given(seed=st.integers(0, 10**9), shapes=st.integers(1, 4))
def test_a_reference_fits_exactly_one_shape(seed: int, shapes: int) -> None:
    rng = Random(seed)
    scene = sample_scene(rng, shapes)
    for shape in scene.shapes:
        said = sample_reference(rng, scene, shape)
        assert [other for other in scene.shapes if said.fits(other)] == [shape]


def test_what_two_shapes_share_names_neither() -> None:
    said = {reference for reference, _ in references(SCENE, RED_CIRCLE)}
    assert Reference(kind="circle") not in said
    assert Reference(colour="red") not in said
    assert Reference() not in said
    assert {Reference(kind="circle", colour="red"), Reference(size="small"), Reference(place="top left")} <= said
    assert Reference(kind="star") in {reference for reference, _ in references(SCENE, RED_STAR)}


def test_a_lone_shape_may_be_called_the_shape() -> None:
    alone = Scene(SCENE.background, (RED_STAR,))
    assert Reference() in {reference for reference, _ in references(alone, RED_STAR)}


def test_all_that_is_said_is_in_the_words() -> None:
    reference = Reference("circle", "red", "small", "top left")
    for number in range(50):
        english = phrase(Random(number), reference, "en")
        assert english.startswith("the ")
        assert "red" in english and any(name in english for name in KIND_NAMES["en"]["circle"])
        assert any(name in english for name in PLACE_NAMES["en"]["top left"])
        chinese = phrase(Random(number), reference, "zh")
        assert "红色" in chinese and "小" in chinese and "圆" in chinese and "左上" in chinese


def test_two_places_or_kinds_never_share_a_name() -> None:
    for language in LANGUAGES:
        _assert_apart(PLACE_NAMES[language].values(), language)
        _assert_apart(KIND_NAMES[language].values(), language)


def _assert_apart(groups: object, language: Language) -> None:
    names = [name for group in groups for name in group]  # type: ignore[attr-defined]
    assert len(names) == len(set(names)), language
