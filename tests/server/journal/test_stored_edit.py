"""Rows of the journal hold requests and edits: today's bytes stay readable, and what cannot be read says why."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.protocol.request import EditRequest, LoraChoice

from qied.edit import EditSpec
from qied.server.journal.stored_edit import (
    VERSION,
    UnreadableRow,
    pack,
    pack_texts,
    size_in,
    texts_in,
    timings_in,
    unpack,
)

PICTURE, MASK = "a" * 64, "b" * 64
LORA = LoraChoice("style", 0.5)
REQUEST = EditRequest((PICTURE,), "x", 7, "y", 4, 2.0, 64, 48, "draft", "bf16", (LORA,), MASK, "fit", "webp", False)
SPEC = EditSpec((PICTURE,), "x", "y", 7, 4, 2.0, 64, 48, MASK, "webp", 2, (LORA,), "lightning")
SPEC_2 = replace(SPEC, preset="draft", precision="bf16", warnings=("Few steps.", "No LoRA."))
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
# As version 2 writes them: the version, then the mapping; an edit may have three fields more.
STORED_REQUEST_2 = b"\x92\x02" + STORED_REQUEST
STORED_SPEC_2 = (
    b"\x92\x02\xde\x00\x10" + STORED_SPEC[1:] + b"\xa6preset\xa5draft\xa9precision\xa4bf16"
    + b"\xa8warnings\x92\xaaFew steps.\xa8No LoRA."
)  # fmt: skip


def test_rows_of_version_1_are_read() -> None:
    assert (unpack(EditRequest, STORED_REQUEST), unpack(EditSpec, STORED_SPEC)) == (REQUEST, SPEC)


def test_rows_of_version_2_are_read_and_this_version_writes_nothing_else() -> None:
    assert (unpack(EditRequest, STORED_REQUEST_2), unpack(EditSpec, STORED_SPEC_2)) == (REQUEST, SPEC_2)
    written = (VERSION, pack(REQUEST), pack(SPEC_2))
    assert written == (2, STORED_REQUEST_2, STORED_SPEC_2), "new fields need a new version"
    assert size_in(STORED_SPEC_2) == (64, 48)


@given(st.one_of(st.binary(), st.just(pack_texts(["a", "b"]))))
def test_a_list_of_texts_that_cannot_be_read_is_empty(stored: bytes) -> None:
    assert all(isinstance(text, str) for text in texts_in(stored))
    assert texts_in(pack_texts(["a", "b"])) == ("a", "b")
    assert texts_in(pack_texts([])) == ()


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
