from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.errors import CODES, AboveCap, InternalError, InvalidRequest, QiedError, from_code
from qied_client.protocol import fields as f
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.codec import decode, encode
from qied_client.protocol.message import cut_text
from qied_client.protocol.request import EditRequest
from qied_client.protocol.roles import FROM_CLIENT, FROM_DAEMON

KNOWN = {**FROM_CLIENT, **FROM_DAEMON}
KINDS = sorted(KNOWN.values(), key=lambda kind: kind.__name__)
HASH = "f" * 64


def largest(check: Any) -> Any:
    """The value that takes the most bytes in a header, of those that the check allows."""
    match check:
        case f.Int(_, high, multiple):
            return high - high % multiple
        case f.Real(_, high):
            return high
        case f.Text(limit):
            return "\x7f" * limit
        case f.Identifier(limit):
            return "i" * limit
        case f.NameInFolder(limit):
            return "n" * limit
        case f.Hash():
            return HASH
        case f.Flag():
            return True
        case f.OneOf(allowed):
            return max(allowed, key=len)
        case f.Maybe(inner) | f.Later(inner):
            return largest(inner)
        case f.Later(inner):
            return largest(inner)
        case f.ListOf(inner, most, _):
            return (largest(inner),) * most
        case f.Scalars(most):
            return {f"{n:02}".ljust(limits.ID_CHARS, "k"): "\x7f" * limits.SCALAR_BYTES for n in range(most)}
        case f.Body(_, most):
            return bytes(most)
        case f.Nested(kind):
            return largest_of(kind)
        case _:
            raise AssertionError(f"no largest value for {check!r}")


def largest_of(kind: type[Any]) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    checks = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    return kind(**{name: largest(check) for name, check in checks.items()})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_largest_legal_message_fits_a_header(kind: type[m.Message]) -> None:
    message = largest_of(kind)
    frames = encode(message)
    assert len(frames[1]) <= limits.HEADER_BYTES
    assert all(len(frame) <= limits.FRAME_BYTES for frame in frames)
    assert decode(frames, KNOWN) == message


def test_the_daemon_names_no_device_while_a_worker_starts() -> None:
    row = m.WorkerRow("gpu-0", "starting", "", 0, 0, 0, 0, 0, 0)
    report = m.StatusReport(1, "model", "bf16", 0, 0, 0, 0, 0, 0, 0, False, (row,), (), ())
    assert decode(encode(report), FROM_DAEMON) == report


def test_a_field_that_came_later_is_sent_only_where_it_says_something() -> None:
    quiet = m.WorkerRow("gpu-0", "ready", "", 0, 0, 0, 0, 0, 0)
    assert "trouble" not in f.write(quiet)
    troubled = m.WorkerRow("gpu-0", "lost", "", 0, 0, 0, 0, 0, 0, "The card is gone.")
    assert f.read(m.WorkerRow, f.write(troubled)) == troubled


def test_each_side_has_the_connections_messages_and_its_own() -> None:
    both = set(FROM_CLIENT) & set(FROM_DAEMON)
    assert both == {b"PING", b"PONG", b"BYE", b"CHUNK", b"MORE", b"DROP"}
    requests = {kind for kind in FROM_CLIENT.values() if "id" in get_type_hints(kind)}
    assert {kind.TYPE for kind in requests} == set(FROM_CLIENT) - both


def carried(error: QiedError) -> QiedError:
    """The error as the other side gets it."""
    failure = decode(encode(m.Failure.of(error, 7)), FROM_DAEMON)
    assert isinstance(failure, m.Failure)
    assert failure.re == 7
    return failure.error()


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_typed_error_survives_the_wire(code: str) -> None:
    error = from_code(code, "What was wrong.", "What to do.", {"field": "steps", "limit": 3, "share": 0.5, "a": None})
    there = carried(error)
    assert type(there) is type(error)
    assert (there.code, there.message, there.remedy) == (error.code, error.message, error.remedy)
    assert {key: there.details[key] for key in ("field", "limit", "share", "a")} == {
        "field": "steps",
        "limit": 3,
        "share": 0.5,
        "a": None,
    }


def test_the_nearest_size_of_a_request_above_the_cap_survives_the_wire() -> None:
    there = carried(AboveCap("Too large.", "Ask for less.", nearest_width=1024, nearest_height=768))
    assert there.details == {"nearest_width": 1024, "nearest_height": 768}


ANY_TEXT = st.text(max_size=400) | st.just("€" * 3000) | st.just("\udcff\0") | st.just("𝄞" * 3000)


@given(
    ANY_TEXT,
    ANY_TEXT,
    st.dictionaries(ANY_TEXT, st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT, max_size=40),
)
def test_any_error_gives_a_failure_that_the_other_side_takes(
    message: str, remedy: str, details: dict[str, Any]
) -> None:
    error = InternalError(message, remedy)
    error.details.update(details)
    there = carried(error)
    assert type(there) is InternalError
    assert there.message == cut_text(message, limits.TEXT_CHARS)


def test_long_texts_are_cut_at_a_character() -> None:
    there = carried(InvalidRequest("€" * 2000, "x" * 5000, field="ü" * 300))
    assert there.message == "€" * (limits.TEXT_CHARS // 3)
    assert there.remedy == "x" * limits.TEXT_CHARS
    assert there.details == {"field": "ü" * (limits.SCALAR_BYTES // 2)}


def test_the_largest_error_fits_a_header() -> None:
    details = {f"{n:02}".ljust(limits.ID_CHARS, "k"): "x" * 1000 for n in range(100)}
    there = carried(InternalError("x" * 9000, "x" * 9000, **details))
    assert len(there.details) == limits.SCALARS


def test_ids_of_a_refused_message_stay_behind() -> None:
    assert carried(InvalidRequest("x", field="steps", id=3)).details == {"field": "steps"}


def test_an_outcome_that_is_no_success_is_a_typed_error() -> None:
    failed = m.Result("job", 1, "failed", code="out_of_memory", message="m", remedy="r")
    error = failed.error()
    assert error is not None
    assert (error.code, error.message, error.remedy) == ("out_of_memory", "m", "r")
    assert m.Result("job", 1, "succeeded").error() is None


def test_a_body_is_no_part_of_the_header() -> None:
    assert m.Chunk(1, 0, 3, b"abc").body == b"abc"
    assert m.Event("job", 1, "step").body is None
    assert m.Ping(1).body is None
    assert m.Ping(1).with_body(None) == m.Ping(1)
    with pytest.raises(f.FieldError, match="this message has none"):
        m.Ping(1).with_body(b"x")


def test_a_request_travels_inside_its_messages() -> None:
    request = EditRequest((HASH,), "x", 1)
    submit = m.Submit(1, "job", request, request.payload_hash())
    there = decode(encode(submit), FROM_CLIENT)
    assert isinstance(there, m.Submit)
    assert there.request.payload_hash() == there.payload_hash
