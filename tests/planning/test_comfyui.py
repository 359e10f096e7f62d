"""An edit as ComfyUI does it: sizes, crops and token counts against its formulas, written down here a second time."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from qied_client.errors import AboveCap, InvalidRequest
from qied_client.protocol.request import Compat, EditRequest

from qied.edit import EditSpec
from qied.planning.edits.comfyui import KONTEXT_SIZES, vision_grid
from qied.planning.edits.views import Sight, source_view
from qied.planning.edits.workload import works_of
from qied.planning.plan import Execution, Plan, Sessions
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.request_defaults import admitted, resolve
from qied.planning.requests.serving import Serving

PROFILE = shipped_profiles()["qwen-image-edit-2511"]
MEGAPIXEL = 1024 * 1024
A, B, C, MASK = (letter * 64 for letter in "abcd")
HALVES = [672, 688, 720, 752, 800, 832, 880, 944], [1568, 1504, 1456, 1392, 1328, 1248, 1184, 1104]


def serving_up_to(pixels: int) -> Serving:
    run = Execution("cuda", 0, "bf16", None, "bf16", 60, 60, 0, "resident", None, None, False, 0, MEGAPIXEL)
    made = Plan("m", "card", "profile", "bf16", None, (), 0, 0, 0, 0, pixels, MEGAPIXEL, Sessions(8, 8), run, ())
    return Serving(PROFILE, (made,))


SERVING = serving_up_to(2 * MEGAPIXEL)
SIGHT = Sight(PROFILE, MEGAPIXEL)


def request(**fields: object) -> EditRequest:
    return EditRequest(**{"images": (A,), "prompt": "do it", "seed": 1, "compat": Compat(), **fields}).validated()


def sizes(count: int) -> list[tuple[int, int]]:
    """Random sizes of pictures, small and large, near a ratio that is a tie or close to one, and extreme ones."""
    draw = random.Random(20261130)
    found = []
    while len(found) < count:
        width, height = draw.randint(16, 5000), draw.randint(16, 5000)
        if draw.random() < 0.3:
            width, height = draw.choice(KONTEXT_SIZES)
            width, height = width * draw.randint(1, 3) + draw.randint(-2, 2), height * draw.randint(1, 3)
        if max(width, height) <= 32 * min(width, height):
            found.append((width, height))
    return found


def chosen(width: int, height: int) -> tuple[int, int]:
    """Nearest aspect of the 17, in double precision; ties go to the lesser tuple of (difference, width, height)."""
    pairs = [*zip(*HALVES, strict=True), (1024, 1024), *zip(*reversed(HALVES), strict=True)]
    best = min(abs(width / height - across / down) for across, down in pairs)
    return min(pair for pair in pairs if abs(width / height - pair[0] / pair[1]) == best)


def cut(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """``common_upscale`` with the crop "center": what is too much is left out, half of it on each side."""
    old, new = size[0] / size[1], target[0] / target[1]
    x = round((size[0] - size[0] * (new / old)) / 2) if old > new else 0
    y = round((size[1] - size[1] * (old / new)) / 2) if old < new else 0
    return x, y, size[0] - x, size[1] - y


def scaled(size: tuple[int, int], total: int, step: float) -> tuple[int, int]:
    by = math.sqrt(total / (size[0] * size[1]))
    return int(round(size[0] * by / step) * step), int(round(size[1] * by / step) * step)


def tokens(size: tuple[int, int]) -> int:
    """Latents have a cell for 8 pixels; a token is 2 x 2 of them, with padding where one side is odd."""
    return math.ceil(Fraction(size[0] // 8, 2)) * math.ceil(Fraction(size[1] // 8, 2))


@pytest.mark.parametrize("others", [(), (B,), (B, C)])
def test_sizes_crops_and_token_counts_are_those_of_comfyui(others: tuple[str, ...]) -> None:
    draw = random.Random(len(others))
    names = (A, *others)
    for first in sizes(200):
        of = {A: first, **{name: (draw.randint(64, 3000), draw.randint(100, 3000)) for name in others}}
        of = {name: size for name, size in of.items() if max(size) <= 32 * min(size)}
        if len(of) < len(names):
            continue
        spec = resolve(request(images=names), [of[name] for name in names], SERVING).spec
        target = chosen(*first)
        assert (spec.width, spec.height) == spec.size == target and spec.sized == "kontext" and spec.aligned == 0
        seen = SIGHT.of_first_pass(spec, of)
        work = works_of(spec, PROFILE, MEGAPIXEL)[0][0]
        for place, name in enumerate(names):
            size = target if place == 0 else of[name]
            vision, reference = seen.vision[place][1], seen.references[place][1]
            assert (vision.size, vision.filter) == (scaled(size, 384 * 384, 1.0), "area")
            assert (reference.size, reference.filter) == (scaled(size, MEGAPIXEL, 8.0), "area")
            assert vision.scaled == reference.scaled == (target if place == 0 else None)
            expected = tuple(map(float, cut(first, target))) if place == 0 else None
            assert vision.box == reference.box == expected
            assert tokens(reference.size) * len(names) <= work.reference_tokens
            across, down = (round(side / 28) for side in vision.size)
            assert vision_grid(vision.size) == (28 * across, 28 * down) and across * down <= work.vision_tokens
        assert work.target_tokens == tokens(target) == target[0] * target[1] // 256


def test_the_plan_counts_no_more_than_rounding_can_add() -> None:
    usual, compat = (
        works_of(resolve(request(compat=each), [(1000, 800)], SERVING).spec, PROFILE, MEGAPIXEL)[0][0]
        for each in (None, Compat())
    )
    assert 4096 <= compat.reference_tokens < usual.reference_tokens
    assert compat.vision_tokens < usual.vision_tokens


def test_very_small_and_very_large_pictures_get_the_grid_that_the_vision_tower_allows() -> None:
    for size in [(10, 10), (28, 30), (56, 55), (9000, 4000), (4, 1000)]:
        across, down = vision_grid(size)
        assert across % 28 == down % 28 == 0 and 3136 <= across * down <= 12845056


def test_a_mask_keeps_the_first_picture_as_it_was_scaled_and_other_sizes_are_taken_as_they_are() -> None:
    masked = resolve(request(mask=MASK), [(1400, 900)], SERVING).spec
    view = SIGHT.of_first_pass(masked, {A: (1400, 900)}).source
    assert view is not None and view[1] == source_view(masked, (1400, 900))
    assert (view[1].size, view[1].scaled, view[1].box) == ((1248, 832), (1248, 832), (25.0, 0.0, 1375.0, 900.0))
    given = resolve(request(width=512, height=768), [(1400, 900)], SERVING).spec
    assert (given.size, given.sized, given.crop_width) == ((512, 768), "default", 0)
    assert SIGHT.of_first_pass(given, {A: (1400, 900)}).references[0][1].scaled is None
    own = resolve(request(images=(A, B), size="same"), [(1400, 901), (64, 64)], SERVING).spec
    assert own.size == (1400, 901)


def test_settings_that_belong_to_compat_go_into_the_edit() -> None:
    spec = resolve(request(true_cfg_scale=4.0), [(640, 480)], SERVING).spec
    assert (spec.negative_prompt, spec.align) == ("", False)
    assert spec.compat == Compat("comfyui", 3.1, "post", 1.0)
    passed = resolve(request(canvas=B, size="kontext", refine=0.4, steps=7), [(640, 480)], SERVING, canvas=(3000, 2000))
    assert passed.spec.drawn_size == (1248, 832)
    only = passed.spec.passes[0]
    assert (only.own_steps, only.first_step, passed.spec.forwards) == (7, 0, 14)
    at_own_size = resolve(request(canvas=B, refine=0.4), [(640, 480)], SERVING, canvas=(3000, 2000)).spec
    assert at_own_size.drawn_size == (3000, 2000)


def test_a_small_model_has_the_same_aspects_at_its_own_area() -> None:
    profile = shipped_profiles()["builtin"]
    spec = resolve(request(), [(300, 200)], Serving(profile, SERVING.plans)).spec
    assert (spec.width, spec.height) == (16 * round(1248 / 4 / 16), 16 * round(832 / 4 / 16))


def test_a_size_above_the_cap_is_refused_or_fitted_and_still_cut_to_its_proportions() -> None:
    served = serving_up_to(300_000)
    resolved = resolve(request(), [(1400, 900)], served)
    with pytest.raises(AboveCap):
        admitted(resolved, request(), served)
    fitted = resolve(request(on_cap="fit"), [(1400, 900)], served).spec
    assert fitted.width * fitted.height <= 300_000
    box = SIGHT.of_first_pass(fitted, {A: (1400, 900)}).references[0][1].box
    assert box is not None and abs((box[2] - box[0]) / (box[3] - box[1]) - fitted.width / fitted.height) < 0.005


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": "kontext", "compat": None}, "size: 'kontext'"),
        ({"size": "kontext", "width": 512, "height": 512}, "size: 'kontext'"),
        ({"compat": Compat("comfyui", 0.0)}, "compat.shift"),
        ({"compat": Compat("comfyui", 3.0, "both")}, "compat.cfg_norm"),
        ({"compat": Compat("a1111")}, "compat.program"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        request(**fields)


def test_a_spec_without_it_is_written_as_before() -> None:
    from qied_client.protocol.fields import read, write

    plain = resolve(request(compat=None), [(640, 480)], SERVING).spec
    assert "compat" not in write(plain)
    compat = resolve(request(compat=Compat(shift=2.5)), [(640, 480)], SERVING).spec
    assert read(EditSpec, write(compat)) == compat
