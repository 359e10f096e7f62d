"""Rows of the journal hold requests and edits: today's bytes stay readable, and what cannot be read says why."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.protocol.request import EditRequest, LoraChoice

from qied.edit import EditSpec
from qied.server.journal.stored_edit import VERSION, UnreadableRow, pack, size_in, timings_in, unpack

PICTURE, MASK = "a" * 64, "b" * 64
LORA = LoraChoice("style", 0.5)
REQUEST = EditRequest((PICTURE,), "x", 7, "y", 4, 2.0, 64, 48, "draft", "bf16", (LORA,), MASK, "fit", "webp", False)
SPEC = EditSpec((PICTURE,), "x", "y", 7, 4, 2.0, 64, 48, MASK, "webp", 2, (LORA,), "lightning")
# As version 1 wrote them. They must stay readable: never change them, add those of a new version.
_LORAS = b"\xa5loras\x91\x82\xa4name\xa5style\xa8strength\xcb?\xe0\x00\x00\x00\x00\x00\x00"
_IMAGES, _MASK = b"\xa6images\x91\xd9@" + b"a" * 64, b"\xa4mask\xd9@" + b"b" * 64
_CFG = b"\xaetrue_cfg_scale\xcb@\x00\x00\x00\x00\x00\x00\x00\xa5width@\xa6height0"
STORED_REQUEST = (
    b"\x8f" + _IMAGES + b"\xa6prompt\xa1x\xa4seed\x07\xafnegative_prompt\xa1y\xa5steps\x04" + _CFG
    + b"\xa6preset\xa5draft\xa9precision\xa4bf16" + _LORAS + _MASK
    + b"\xa6on_cap\xa3fit\xadoutput_format\xa4webp\xa8previews\xc2"
)  # fmt: skip
STORED_SPEC = (
    b"\x8d" + _IMAGES + b"\xa6prompt\xa1x\xafnegative_prompt\xa1y\xa4seed\x07\xa5steps\x04" + _CFG + _MASK
    + b"\xadoutput_format\xa4webp\xadpreview_every\x02" + _LORAS + b"\xa8schedule\xa9lightning"
)  # fmt: skip


def test_rows_of_version_1_are_read_and_this_version_writes_nothing_else() -> None:
    assert (unpack(EditRequest, STORED_REQUEST), unpack(EditSpec, STORED_SPEC)) == (REQUEST, SPEC)
    assert (VERSION, pack(REQUEST), pack(SPEC)) == (1, STORED_REQUEST, STORED_SPEC), "new fields need a new version"


def test_a_row_of_a_newer_version_names_both_versions() -> None:
    with pytest.raises(UnreadableRow, match=f"a newer qied stored it .version 9; this one reads up to {VERSION}"):
        unpack(EditSpec, pack(SPEC, version=9))
    assert size_in(pack(SPEC, version=9)) == (64, 48)


def test_a_field_that_is_not_known_is_named() -> None:
    with pytest.raises(UnreadableRow, match=r"next_year.*EditRequest"):
        unpack(EditRequest, msgpack.packb({**msgpack.unpackb(STORED_REQUEST), "next_year": 1}))


@given(st.one_of(st.binary(), st.text(), st.none(), st.integers(0, 2000).map(lambda cut: STORED_SPEC[:cut])))
def test_whatever_a_row_holds_ends_in_an_edit_or_a_reason(stored: object) -> None:
    try:
        assert unpack(EditSpec, stored) == SPEC
    except UnreadableRow as problem:
        assert str(problem)
    assert len(size_in(stored)) == 2
    if isinstance(stored, bytes):
        assert isinstance(timings_in(stored), dict)
