"""Turns of phrase that are not plain English stay out of messages, help texts and docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("qied", "client/qied_client", "comfyui")
DOCUMENTS: tuple[str, ...] = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "client/README.md",
    "comfyui/README.md",
    "comfyui/web/docs/*/en.md",
    "docs/*.md",
    "qied.toml",
)
"""Patterns of the documents that are searched as well, relative to the repository."""

BANNED = (
    r"(?<!\bthere )\bis no (?!longer|more)",
    r", too(?=[.,;:)]|$)",
    r"\b(nobody|whoever|anybody)\b",
    r"\bbeside\b",
    r"\bcut off\b",
    r"\banew\b",
    r"\blistened at\b",
    r"\bno such thing\b",
    r"\bby a defect\b",
    r"\bwithout a word\b",
    r"\bof yours\b",
    r"\bdoes not tell\b",
)
TURNS = re.compile("|".join(BANNED), re.IGNORECASE)
CODE = re.compile(r"``[^`]*``")
GENERATED = re.compile(r"<!-- (?P<mark>[^<>]*): begin -->.*?<!-- (?P=mark): end -->", re.DOTALL)


def found_in(text: str) -> Iterator[str]:
    for turn in TURNS.finditer(" ".join(CODE.sub("``", text).split())):
        yield turn.string[max(0, turn.start() - 40) : turn.end() + 40]


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


@pytest.mark.parametrize("package", PACKAGES)
def test_texts_of_the_code_are_in_plain_english(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [
        f"{file.relative_to(ROOT)}:{line}: {turn}"
        for file in files
        for line, text in texts_of(file.read_text(encoding="utf-8"))
        for turn in found_in(text)
    ] == []


def test_documents_are_in_plain_english():
    files = [file for pattern in DOCUMENTS for file in sorted(ROOT.glob(pattern))]
    assert [
        f"{file.relative_to(ROOT)}: {turn}"
        for file in files
        for turn in found_in(GENERATED.sub(" ", file.read_text(encoding="utf-8")))
    ] == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("'x' is no size.", True),
        ("The job is no longer known; there is no card.", False),
        ("The scale is used, too.", True),
        ("It is too old, too large or too new.", False),
        ("A key that nobody\n    enrolled.", True),
        ("Put the file beside it.", True),
        ("Put it next to the file; besides, it is small.", False),
        ("Connect anew.", True),
        ("A job ``beside`` is the name of a parameter.", False),
    ],
)
def test_the_list_tells_turns_from_plain_words(text, bad):
    assert bool(list(found_in(text))) is bad


def test_only_texts_are_searched_and_those_within_f_strings_too():
    source = 'beside = f"{beside} lies beside it"  # beside\n'
    assert [text for _, text in texts_of(source) if list(found_in(text))] == [" lies beside it"]
