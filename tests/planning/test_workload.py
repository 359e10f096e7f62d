"""Sizes of edits: what is counted is never less than what any picture can need."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from qied.edit import EditSpec, PassSpec
from qied.planning.edits.crops import crop_of
from qied.planning.edits.geometry import MAX_ASPECT, reference_size, vision_size
from qied.planning.edits.workload import largest_workload, workload_of, works_of
from qied.planning.profiles.model_profile import shipped_profiles

REAL = shipped_profiles()["qwen-image-edit-2511"]
SPEC = EditSpec(("a" * 64,), "make it blue", None, 1, 20, 1.0, 1024, 1024)
CAP = 1024 * 1024


@given(
    side=st.integers(1, 6000),
    aspect=st.floats(1, MAX_ASPECT),
    turned=st.booleans(),
    profile=st.sampled_from(sorted(shipped_profiles())),
)
def test_no_picture_has_more_pixels_or_vision_tokens_than_are_counted(side, aspect, turned, profile):
    model = shipped_profiles()[profile]
    sides = (max(1, round(side * aspect)), side)
    if max(sides) > MAX_ASPECT * min(sides):
        return
    width, height = sides if turned else sides[::-1]
    work = workload_of(SPEC, model, CAP)
    fitted = reference_size(model, width, height)
    assert fitted[0] * fitted[1] <= work.reference_pixels
    # The vision tower's processor rounds what it gets to multiples of 28.
    rows, columns = (max(1, round(length / 28)) for length in vision_size(model, width, height))
    assert rows * columns <= work.vision_tokens


def test_a_square_megapixel_has_4096_target_tokens_and_references_a_tenth_more_at_most():
    work = workload_of(SPEC, REAL, CAP)
    assert work.target_tokens == 4096
    assert 4096 <= work.reference_tokens <= 4600
    assert work.tokens == work.target_tokens + work.reference_tokens + work.text_tokens


def test_a_cap_shrinks_references():
    assert workload_of(SPEC, REAL, CAP // 4).reference_tokens < workload_of(SPEC, REAL, CAP).reference_tokens / 3


@given(
    width=st.integers(1, 64).map(lambda n: 16 * n),
    height=st.integers(1, 64).map(lambda n: 16 * n),
    images=st.integers(1, 3),
    prompt=st.text(max_size=400),
    guided=st.booleans(),
    mask=st.sampled_from([None, "b" * 64]),
)
def test_nothing_within_the_caps_is_larger_than_the_largest_workload(width, height, images, prompt, guided, mask):
    spec = replace(
        SPEC,
        width=width,
        height=height,
        images=("a" * 64,) * images,
        prompt=prompt,
        true_cfg_scale=4.0 if guided else 1.0,
        negative_prompt=" " if guided else None,
        mask=mask,
    )
    work, largest = workload_of(spec, REAL, CAP), largest_workload(REAL, CAP, CAP)
    for name in ("target_tokens", "reference_tokens", "text_tokens", "tokens", "guided", "masked"):
        assert getattr(work, name) <= getattr(largest, name), name


@settings(deadline=None, max_examples=200)
@given(
    width=st.integers(16, 3000),
    height=st.integers(16, 3000),
    region=st.tuples(*[st.floats(0, 1)] * 4),
    profile=st.sampled_from(["builtin", "qwen-image-edit-2511"]),
    padding=st.sampled_from([None, 0, 32, 200]),
    cap=st.sampled_from([1 << 16, 1 << 18, 1 << 20, 1 << 22]),
)
def test_wherever_a_mask_marks_a_pass_is_no_larger_than_was_counted(width, height, region, profile, padding, cap):
    if max(width, height) > 30 * min(width, height):
        return
    model, canvas = shipped_profiles()[profile], (width, height)
    context = model.geometry.crop_context if padding is None else 0.0
    each = PassSpec(0.5, 0, 0, width, height, padding or 0, 8, 4, cap, mask="m", context=context)
    left, right = sorted(round(share * (width - 1)) for share in region[:2])
    top, bottom = sorted(round(share * (height - 1)) for share in region[2:])
    grid = tuple(-(-side // 16) * 16 for side in canvas)
    spec = replace(
        SPEC, width=grid[0], height=grid[1], canvas="c", crop_width=width, crop_height=height, passes=(each,)
    )
    ((work, steps),) = works_of(spec, model, CAP)
    crop = crop_of(each.located((left, top, right + 1, bottom + 1)), canvas, model)
    assert crop.width * crop.height <= work.target_pixels <= cap
    assert steps == each.own_steps
