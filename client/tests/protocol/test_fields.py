from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qied_client.protocol import fields as f
from qied_client.protocol import limits

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SURROGATE = "a\udcff"


@dataclass(frozen=True)
class Point:
    x: Annotated[int, f.Int(0, 10)]
    y: Annotated[int, f.Int(0, 10)] = 3


@dataclass(frozen=True)
class Shape:
    points: Annotated[tuple[Point, ...], f.ListOf(f.Nested(Point), 3)]
    notes: Annotated[dict[str, Any], f.Scalars()]
    data: Annotated[bytes, f.Body(0, 4)] = b""


CHECKS: list[f.Check] = [
    f.Int(-5, 5),
    f.Int(16, 64, multiple=16),
    f.Real(-1.0, 1.0),
    f.Text(8),
    f.Text(8, empty=True),
    f.Identifier(8),
    f.NameInFolder(8),
    f.Hash(),
    f.Flag(),
    f.OneOf(("a", "b")),
    f.Maybe(f.Flag()),
    f.ListOf(f.Flag(), 3, least=1),
    f.Scalars(),
    f.Body(1, 4),
    f.Nested(Point),
    f.Nested(Shape),
]


@pytest.mark.parametrize("check", CHECKS, ids=repr)
@settings(max_examples=30)
@given(value=ANYTHING)
def test_a_check_returns_what_it_would_take_again_or_raises_a_field_error(check: f.Check, value: object) -> None:
    try:
        taken = check(value)
    except f.FieldError as error:
        assert error.problem
        return
    assert check(taken) == taken


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (f.Int(0, 10), 0),
        (f.Int(0, 10), 10),
        (f.Int(0, 64, multiple=16), 48),
        (f.Real(0.0, 1.0), 0.0),
        (f.Real(0.0, 1.0), 1),
        (f.Text(4), "äö"),
        (f.Text(4, empty=True), ""),
        (f.Identifier(4), "a.-_"),
        (f.NameInFolder(12), "ä (v2)/b.c"),
        (f.Hash(), "0123456789abcdef" * 4),
        (f.Maybe(f.Int(0, 1)), None),
        (f.ListOf(f.Int(0, 1), 2), (0, 1)),
        (f.Scalars(), {"a": None, "b": True, "c": 2**63 - 1, "d": -1.5, "e": "text"}),
        (f.Body(0, 4), b"1234"),
        (f.Body(0, 4), memoryview(b"1234")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_at_the_bounds_are_taken(check: f.Check, value: object) -> None:
    assert check(value) == value


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (f.Int(0, 10), -1),
        (f.Int(0, 10), 11),
        (f.Int(0, 10), True),
        (f.Int(0, 10), 3.0),
        (f.Int(0, 10), 10**5000),
        (f.Int(0, 64, multiple=16), 47),
        (f.Real(0.0, 1.0), float("nan")),
        (f.Real(0.0, 1.0), float("inf")),
        (f.Real(0.0, 1.0), 10**400),
        (f.Real(0.0, 1.0), 1.0000001),
        (f.Real(0.0, 1.0), True),
        (f.Real(0.0, 1.0), "0.5"),
        (f.Text(4), "äöü"),
        (f.Text(4), ""),
        (f.Text(4), " \n"),
        (f.Text(4), b"ab"),
        (f.Text(4), "a\0b"),
        (f.Text(8), SURROGATE),
        (f.Identifier(4), ""),
        (f.Identifier(4), "abcde"),
        (f.Identifier(4), ".a"),
        (f.Identifier(4), "a\n"),
        (f.Identifier(4), "ä"),
        (f.NameInFolder(4), "abcde"),
        (f.NameInFolder(9), ""),
        (f.NameInFolder(9), "../a"),
        (f.NameInFolder(9), "a/../b"),
        (f.NameInFolder(9), "/a"),
        (f.NameInFolder(9), "a/"),
        (f.NameInFolder(9), "a//b"),
        (f.NameInFolder(9), ".a"),
        (f.NameInFolder(9), "a/ b"),
        (f.NameInFolder(9), "a\\b"),
        (f.NameInFolder(9), "a\nb"),
        (f.Hash(), "0123456789ABCDEF" * 4),
        (f.Hash(), "0" * 63),
        (f.Hash(), "0" * 64 + "\n"),
        (f.Flag(), 1),
        (f.OneOf(("a",)), "A"),
        (f.Maybe(f.Int(0, 1)), 2),
        (f.ListOf(f.Int(0, 1), 2), [0, 1, 0]),
        (f.ListOf(f.Int(0, 1), 2, least=1), []),
        (f.ListOf(f.Int(0, 1), 2), {0: 1}),
        (f.ListOf(f.Int(0, 1), 2), "01"),
        (f.Scalars(), {"a": [1]}),
        (f.Scalars(), {"a": float("nan")}),
        (f.Scalars(), {"a": 2**63}),
        (f.Scalars(), {"a": "x" * (limits.SCALAR_BYTES + 1)}),
        (f.Scalars(), {"no spaces": 1}),
        (f.Scalars(), {1: 1}),
        (f.Scalars(), {f"k{n}": n for n in range(limits.SCALARS + 1)}),
        (f.Scalars(), [("a", 1)]),
        (f.Body(1, 4), b""),
        (f.Body(1, 4), b"12345"),
        (f.Body(1, 4), "1234"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_outside_the_bounds_are_refused(check: f.Check, value: object) -> None:
    with pytest.raises(f.FieldError):
        check(value)


def test_a_mapping_is_read_with_defaults() -> None:
    assert f.read(Point, {"x": 1}) == Point(1, 3)
    assert f.read(Shape, {"points": [{"x": 1, "y": 2}], "notes": {}}) == Shape((Point(1, 2),), {})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"notes": {}}, "points"),
        ({"points": [], "notes": {}, "extra": 1}, "'extra'"),
        ({"points": [], "notes": {}, "data": b""}, "'data'"),
        ({"points": 5, "notes": {}}, "points"),
        ({"points": [{"x": 1}, {"x": 11}], "notes": {}}, "points[1].x"),
        ({"points": [{"x": 1}, {}], "notes": {}}, "points[1].x"),
        ({"points": [7], "notes": {}}, "points[0]"),
        ({"points": [{"x": 1, "z": 1}], "notes": {}}, "points[0].'z'"),
        ({"points": [], "notes": {"took": float("inf")}}, "notes.took"),
    ],
)
def test_an_error_names_the_field_from_the_outside_in(value: object, path: str) -> None:
    with pytest.raises(f.FieldError) as caught:
        f.read(Shape, value)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


def test_only_a_mapping_can_be_read() -> None:
    with pytest.raises(f.FieldError, match="must be a mapping"):
        f.read(Point, [1, 2])


def test_a_deeply_nested_value_is_refused_without_printing_it() -> None:
    nested: object = 1
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(f.FieldError, match="not list"):
        f.Int(0, 10)(nested)


@given(st.text(), st.integers(0, 64))
def test_what_was_seen_is_quoted_in_at_most_forty_characters(text: str, size: int) -> None:
    with pytest.raises(f.FieldError) as caught:
        f.Int(0, 10)(text * size)
    assert len(caught.value.problem) < 80


@given(st.integers(0, 10), st.integers(0, 10))
def test_what_is_written_reads_the_same(x: int, y: int) -> None:
    shape = Shape((Point(x, y),), {"took_ms": 1.5}, b"body")
    written = f.write(shape)
    assert "data" not in written
    assert f.read(Shape, written) == Shape(shape.points, shape.notes)


def test_a_dataclass_made_in_code_is_checked_like_one_from_the_wire() -> None:
    assert f.checked(Point(1)) == Point(1)
    with pytest.raises(f.FieldError, match="x: must be 0 to 10"):
        f.checked(Point(11))
