"""What an edit does as another program does it, as people write it down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import InvalidRequest
from qied_client.options.compat import compat_text, given_compat
from qied_client.options.request import edit_request
from qied_client.protocol.request import CFG_NORMS, Compat


@given(
    st.builds(
        Compat,
        shift=st.floats(0.01, 100).map(lambda value: float(f"{value:g}")),
        cfg_norm=st.sampled_from(CFG_NORMS),
        cfg_norm_strength=st.floats(0, 100).map(lambda value: float(f"{value:g}")),
    )
)
def test_what_is_written_is_read_back(compat: Compat) -> None:
    assert given_compat(compat_text(compat)) == compat


def test_nothing_is_nothing_and_the_name_alone_has_the_settings_of_the_official_graph() -> None:
    assert given_compat(None) is given_compat("") is given_compat("  ") is None
    assert compat_text(None) == "" and compat_text(Compat()) == "comfyui"
    assert edit_request("x", 1, {"compat": " comfyui , shift=2"}).compat == Compat(shift=2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a1111", "no edit can be done as by 'a1111'"),
        ("comfyui,steps=4", "'steps' is not a setting"),
        ("comfyui,shift=2,shift=3", "'shift' is given twice"),
        ("comfyui,shift=much", "shift must be a number"),
        ("comfyui,shift=nan", "shift"),
        ("comfyui,cfg_norm=both", "cfg_norm"),
        (7, "'7' is not text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_can(text: object, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        edit_request("x", 1, {"compat": text})
    assert said in str(refused.value) and refused.value.remedy
