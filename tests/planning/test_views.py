"""What an edit that is upscaled needs of its pictures is what it is drawn at, not what it ends as."""

from __future__ import annotations

from dataclasses import replace

from qied.edit import EditSpec, PassSpec
from qied.planning.edits.view import View
from qied.planning.edits.views import Sight, mask_view, original_view, pass_mask_view
from qied.planning.edits.workload import works_of
from qied.planning.profiles.model_profile import shipped_profiles

PROFILE = shipped_profiles()["builtin"]
SIGHT = Sight(PROFILE, 65536)
PICTURE, CANVAS = "a" * 64, "b" * 64
PLAIN = EditSpec(
    (PICTURE,), "x", None, 0, 4, 1.0, 112, 80, crop_width=101, crop_height=75, background="auto", sized="same"
)
PASS = PassSpec(0.5, 10, 10, 40, 30, 16, 4, 4, 65536)


def enlarged(spec: EditSpec) -> EditSpec:
    return replace(spec, upscale="large", upscale_by=4)


def test_upscaling_changes_nothing_but_the_size_of_the_result() -> None:
    for spec in (
        PLAIN,
        replace(PLAIN, mask=CANVAS),
        replace(PLAIN, passes=(PASS,)),
        replace(PLAIN, passes=(PASS,), canvas=CANVAS),
    ):
        assert enlarged(spec).size == (404, 300) and enlarged(spec).drawn_size == spec.size == (101, 75)
        for blob in spec.inputs:
            assert SIGHT.views(enlarged(spec), blob, (101, 75)) == SIGHT.views(spec, blob, (101, 75))
        assert original_view(enlarged(spec), (101, 75)) == original_view(spec, (101, 75))
        assert mask_view(enlarged(spec)) == mask_view(spec) and pass_mask_view(enlarged(spec)) == pass_mask_view(spec)
        assert works_of(enlarged(spec), PROFILE, 65536) == works_of(spec, PROFILE, 65536)


def test_a_picture_that_is_only_upscaled_is_seen_whole_at_its_own_size() -> None:
    alone = replace(enlarged(PLAIN), only_upscales=True)
    assert SIGHT.views(alone, PICTURE, (101, 75)) == (View(101, 75), View(101, 75, "opacity"))
    assert original_view(alone, (101, 75)) is None
