import math
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qied_client.errors import InvalidRequest, ProtocolError, QiedError
from qied_client.protocol import fields as f
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode, registry
from qied_client.protocol.roles import FROM_CLIENT, FROM_DAEMON

KNOWN = {**FROM_CLIENT, **FROM_DAEMON}
KINDS = sorted(KNOWN.values(), key=lambda kind: kind.__name__)


def text(check: f.Text) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    limit = min(check.limit, 300)
    allowed = st.text(characters, max_size=limit).map(lambda value: value.encode()[:limit].decode(errors="ignore"))
    return allowed if check.empty else allowed.filter(lambda value: bool(value.strip()))


def values(check: Any) -> st.SearchStrategy[Any]:
    match check:
        case f.Int(low, high, multiple):
            return st.integers(math.ceil(low / multiple), high // multiple).map(lambda value: value * multiple)
        case f.Real(low, high):
            return st.floats(low, high)
        case f.Text():
            return text(check)
        case f.Identifier(limit):
            return st.from_regex(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{limit - 1}}}", fullmatch=True)
        case f.NameInFolder(limit):
            return st.from_regex(r"[^\W_][\w -]{0,20}[\w](/[\w]{1,20})?", fullmatch=True).filter(
                lambda name: len(name.encode()) <= limit
            )
        case f.Hash():
            return st.binary(min_size=32, max_size=32).map(bytes.hex)
        case f.Flag():
            return st.booleans()
        case f.OneOf(allowed):
            return st.sampled_from(allowed)
        case f.Maybe(inner):
            return st.none() | values(inner)
        case f.Later(inner):
            return values(inner)
        case f.ListOf(inner, most, least):
            return st.lists(values(inner), min_size=least, max_size=min(most, 4)).map(tuple)
        case f.Scalars():
            scalar: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1)
            scalar |= st.floats(allow_nan=False, allow_infinity=False) | text(f.Text(limits.SCALAR_BYTES, empty=True))
            return st.dictionaries(values(f.Identifier(limits.ID_CHARS)), scalar, max_size=4)
        case f.Body(least, most):
            return st.binary(min_size=least, max_size=min(most, 40))
        case f.Nested(kind):
            return wire(kind)
        case _:
            raise AssertionError(f"no strategy for {check!r}")


def wire(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a wire dataclass, drawn from the checks in its annotations."""
    hints = get_type_hints(kind, include_extras=True)
    checks = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    return st.builds(kind, **{name: values(check) for name, check in checks.items()})


MESSAGES = st.sampled_from(KINDS).flatmap(wire)
HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def packed(value: object) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


def refusal(frames: list[bytes]) -> QiedError:
    with pytest.raises(QiedError) as caught:
        decode(frames, KNOWN)
    assert isinstance(caught.value, (ProtocolError, InvalidRequest))
    return caught.value


def decode_or_refuse(frames: list[bytes]) -> None:
    try:
        decode(frames, KNOWN)
    except (ProtocolError, InvalidRequest) as error:
        assert len(error.message) < 2000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_a_message_comes_out_as_it_went_in(kind: type[m.Message], data: st.DataObject) -> None:
    message = data.draw(wire(kind))
    frames = encode(message)
    assert len(frames) <= limits.MESSAGE_FRAMES
    assert decode(frames, KNOWN) == message
    assert decode([memoryview(frame) for frame in frames], KNOWN) == message


@given(st.lists(st.binary(max_size=64), max_size=5))
def test_arbitrary_frames_are_refused_with_a_typed_error(frames: list[bytes]) -> None:
    refusal(frames)


@given(st.sampled_from(sorted(KNOWN)), st.binary(max_size=200), st.none() | st.binary(max_size=40))
def test_arbitrary_bytes_as_header_give_a_message_or_a_typed_error(
    kind: bytes, head: bytes, body: bytes | None
) -> None:
    decode_or_refuse([kind, head] if body is None else [kind, head, body])


@given(st.sampled_from(sorted(KNOWN)), st.dictionaries(st.text(max_size=8), HEADERS, max_size=6))
def test_a_header_of_unknown_keys_is_refused(kind: bytes, header: dict[str, object]) -> None:
    decode_or_refuse([kind, packed(header)])
    refusal([kind, packed({**header, "no such key": 1})])


@given(MESSAGES, st.data())
def test_a_field_of_a_wrong_value_never_gets_through_as_another_error(message: m.Message, data: st.DataObject) -> None:
    header = f.write(message)
    name = data.draw(st.sampled_from(sorted(header)))
    frames = [message.TYPE, packed({**header, name: data.draw(HEADERS)})]
    decode_or_refuse(frames if message.body is None else [*frames, bytes(message.body)])


@given(MESSAGES, st.data())
def test_mutated_frames_give_a_message_or_a_typed_error(message: m.Message, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in encode(message)]
    frame = frames[data.draw(st.integers(0, len(frames) - 1))]
    for _ in range(data.draw(st.integers(1, 4))):
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse([bytes(part) for part in frames])


@given(MESSAGES, st.data())
def test_a_truncated_header_is_refused(message: m.Message, data: st.DataObject) -> None:
    header = bytes(encode(message)[1])
    cut = data.draw(st.integers(0, len(header) - 1))
    assert "msgpack" in refusal([message.TYPE, header[:cut]]).message


@pytest.mark.parametrize(
    "header",
    [
        b"\x81\xa5nonce" + b"\x91" * depth + b"\x01"
        for depth in (100, 500, 900, 1000, 1020, 1100, 5000, limits.HEADER_BYTES - 10)
    ],
    ids=len,
)
def test_deep_nesting_is_refused(header: bytes) -> None:
    assert len(header) <= limits.HEADER_BYTES
    refusal([b"PONG", header])


@pytest.mark.parametrize("start", [b"\x91", b"\x81\xa1a"])
def test_deep_nesting_from_the_top_is_refused(start: bytes) -> None:
    for depth in (500, 1000, 5000):
        refusal([b"PONG", start * depth + b"\x01"])


@pytest.mark.parametrize(
    "value",
    [
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
    ids=["text", "bytes", "list", "mapping", "extension"],
)
def test_a_huge_declared_length_is_refused(value: bytes) -> None:
    refusal([b"PONG", b"\x81\xa5nonce" + value])
    refusal([b"PONG", value])


@pytest.mark.parametrize("extension", [msgpack.ExtType(1, b""), msgpack.ExtType(1, b"x"), msgpack.Timestamp(1)])
def test_extension_types_are_refused(extension: object) -> None:
    refusal([b"PONG", packed({"nonce": extension})])


@pytest.mark.parametrize("header", [None, 1, "text", b"bytes", [], ["nonce", 1], [["nonce", 1]]])
def test_a_header_that_is_no_mapping_is_refused(header: object) -> None:
    assert "mapping" in refusal([b"PONG", packed(header)]).message or isinstance(header, bytes)


@pytest.mark.parametrize("key", [b"nonce", 1, None, True])
def test_keys_must_be_text(key: object) -> None:
    refusal([b"PONG", packed({key: 1})])


def test_the_same_key_twice_is_refused_at_any_depth() -> None:
    assert "twice" in refusal([b"PONG", b"\x82" + packed("nonce") + b"\x01" + packed("nonce") + b"\x02"]).message
    inner = b"\x82" + packed("a") + b"\x01" + packed("a") + b"\x02"
    assert "twice" in refusal([b"PONG", b"\x81" + packed("nonce") + inner]).message


def test_bytes_after_the_header_are_refused() -> None:
    refusal([b"PONG", packed({"nonce": 1}) + b"\x01"])


def test_text_that_is_no_utf_8_is_refused() -> None:
    refusal([b"BYE", b"\x81\xa6reason\xa1\xff"])
    refusal([b"BYE", b"\x81\xa6reason\xa3\xed\xa0\x80"])


def test_a_header_may_have_sixteen_kib_and_no_more() -> None:
    padding = packed({"nonce": "x" * 16_000})
    assert "must be an integer" in refusal([b"PONG", padding]).message
    assert "16384" in refusal([b"PONG", packed({"nonce": "x" * limits.HEADER_BYTES})]).message


def test_an_oversized_header_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="16384"):
        encode(m.Bye("x" * limits.HEADER_BYTES))


@pytest.mark.parametrize("reason", ["a\udcff", object(), 2**70], ids=["surrogate", "object", "huge"])
def test_a_value_that_msgpack_does_not_have_is_not_sent(reason: Any) -> None:
    with pytest.raises(ProtocolError, match="BYE has a field that cannot be sent"):
        encode(m.Bye(reason))


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (m.Chunk(1, 0, 5), None),
        (m.Chunk(1, 0, 5), b""),
        (m.Chunk(1, 0, 5), bytes(limits.CHUNK_BYTES + 1)),
        (m.Event("job", 1, "preview"), bytes(limits.PREVIEW_BYTES + 1)),
        (m.Ping(1), b"body"),
        (m.Ping(1), b""),
    ],
)
def test_a_body_outside_its_bounds_is_refused(message: m.Message, body: bytes | None) -> None:
    frames = [message.TYPE, packed(f.write(message))]
    refusal(frames if body is None else [*frames, body])


def test_a_body_at_its_bound_is_taken() -> None:
    chunk = m.Chunk(1, 0, limits.CHUNK_BYTES, bytes(limits.CHUNK_BYTES))
    assert decode(encode(chunk), KNOWN) == chunk


def test_a_message_has_two_or_three_frames() -> None:
    ping = [b"PING", packed({"nonce": 1})]
    for frames in ([], ping[:1], [*ping, b"", b""]):
        assert "frames" in refusal(frames).message


@pytest.mark.parametrize("kind", [b"", b"ping", b"PING\0", b"STATUSREPORTSTATUSREPORT", b"\xff" * 1000])
def test_an_unknown_type_is_refused(kind: bytes) -> None:
    assert "Unknown message type" in refusal([kind, packed({"nonce": 1})]).message


def test_one_side_does_not_understand_what_only_the_other_may_send() -> None:
    with pytest.raises(ProtocolError, match="Unknown message type"):
        decode(encode(m.Stored(1, "0" * 64)), FROM_CLIENT)
    with pytest.raises(ProtocolError, match="Unknown message type"):
        decode(encode(m.Status(1)), FROM_DAEMON)


HASH = "0" * 64
REQUEST = {"images": [HASH], "prompt": "x", "seed": 1}


def test_a_wrong_field_of_an_edit_request_is_an_invalid_request_that_names_field_and_id() -> None:
    header = {"id": 9, "request": {**REQUEST, "steps": 0}, "sizes": []}
    error = refusal([b"QUOTE", packed(header)])
    assert type(error) is InvalidRequest
    assert error.details == {"field": "steps", "id": 9}
    assert error.message.startswith("steps: must be 1 to 200")


def test_a_wrong_field_of_the_message_itself_is_a_protocol_error_with_its_id() -> None:
    error = refusal([b"QUOTE", packed({"id": 9, "request": REQUEST, "sizes": [{"width": 1, "height": 0}]})])
    assert type(error) is ProtocolError
    assert error.details == {"field": "sizes[0].height", "id": 9}


@pytest.mark.parametrize("identifier", [None, -1, 2**63, True, 1.0, "9", [9]])
def test_an_id_that_is_none_is_not_repeated(identifier: object) -> None:
    assert "id" not in refusal([b"STATUS", packed({"id": identifier, "x": 1})]).details


def test_two_classes_with_one_type_frame_are_a_defect() -> None:
    class OtherPing(m.Ping):
        pass

    with pytest.raises(AssertionError, match="share"):
        registry(m.Ping, OtherPing)


def test_every_wire_field_has_a_check() -> None:
    for kind in KINDS:
        hints = get_type_hints(kind, include_extras=True)
        for name in (name for name in hints if name != "TYPE"):
            assert callable(getattr(hints[name], "__metadata__", [None])[0]), f"{kind.__name__}.{name}"
