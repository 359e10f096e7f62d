import inspect
import pickle
import re
from collections.abc import Iterator

import pytest
from qied_client import errors
from qied_client.errors import CODES, QiedError, from_code


def classes(root: type[QiedError] = QiedError) -> Iterator[type[QiedError]]:
    yield root
    for child in root.__subclasses__():
        yield from classes(child)


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Name of each class in the docstring's tree, to the name of its parent and its code."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        found = re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+)(?: {2,}([a-z_]+)(?= {2,}|$))?.*", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            tree[found[2]] = (path[depth - 1] if depth else None, found[3])
    return tree


def test_the_docstring_draws_exactly_the_classes_that_there_are() -> None:
    real = {cls.__name__: (None if cls is QiedError else cls.__base__.__name__) for cls in classes()}  # type: ignore[union-attr]
    assert {name: parent for name, (parent, _) in drawn_tree().items()} == real


def test_the_docstring_names_the_code_of_each_class_that_is_raised() -> None:
    tree = drawn_tree()
    for cls in classes():
        _, code = tree[cls.__name__]
        if code is not None or not cls.__subclasses__():
            assert code == cls.code, cls.__name__


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [cls.__dict__.get("code") for cls in classes()]
    assert None not in codes
    assert len(set(codes)) == len(codes)


def test_every_class_is_public_and_says_what_it_means() -> None:
    for cls in classes():
        assert getattr(errors, cls.__name__) is cls
        assert inspect.getdoc(cls)


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_gives_its_class_back(code: str) -> None:
    error = from_code(code, "message", "remedy", {"field": "steps"})
    assert type(error) is CODES[code]
    assert error.code == code
    assert (error.message, error.remedy, error.details["field"]) == ("message", "remedy", "steps")


def test_a_code_of_a_later_version_gives_the_base_class_and_is_kept() -> None:
    error = from_code("not_yet_known", "message")
    assert type(error) is QiedError
    assert error.details == {"code": "not_yet_known"}


def test_an_error_reads_as_what_was_wrong_and_what_to_do() -> None:
    assert str(errors.DiskFull("The disk is full.", "Free some space.")) == "The disk is full. Free some space."
    assert str(errors.DiskFull("The disk is full.")) == "The disk is full."


def test_details_of_one_error_are_not_those_of_another() -> None:
    one, other = errors.DiskFull("x"), errors.DiskFull("x")
    one.details["a"] = 1
    assert other.details == {}


def test_an_error_can_be_pickled_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.AboveCap("message", "remedy", nearest_width=16)))
    assert type(error) is errors.AboveCap
    assert (error.message, error.remedy, error.details) == ("message", "remedy", {"nearest_width": 16})
