"""Figures in a page's prose: where they stand, and the sentences that they are written into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_UNITS = (
    r"ms|us|s|seconds?|minutes?|hours?|GB|GiB|MB|MiB|kB|KiB|TB|bytes|GB/s|MB/s|TFLOP/s|%|percent|x|dB|W|MHz|GHz"
    r"|times|edits|tests|jobs|kills|lines|launches|tokens|steps|slots|cards|clients|pixels|megapixels?"
)
_NUMBER = r"[-+]?\d+(?:[.,]\d+)*"
FIGURE = re.compile(rf"(?<![\w.`/\"-]){_NUMBER}(?:\s?(?:to|and|or)\s?{_NUMBER})?\s?(?:{_UNITS})(?![\w/])(?!\s\d)")
"""A number with a unit, or a range of two."""
_GENERATED = re.compile(r"<!-- (\w[\w ]*): begin -->.*?<!-- \1: end -->", re.DOTALL)
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_PLACE = re.compile(r"\{([\w.]+)\}")
_VALUE = r"([-+]?[\w.]*\d[\w.,%-]*?|[A-Z]\w+)"


@dataclass(frozen=True)
class Sentence:
    """``text`` stands in ``page``, with ``{name}`` for each value that comes from a result."""

    page: str
    text: str

    def pattern(self) -> re.Pattern[str]:
        """Finds the sentence in a page with any values in it, however its lines are broken."""
        parts = _PLACE.split(self.text)
        literals = (_literal(part) if index % 2 == 0 else _VALUE for index, part in enumerate(parts))
        return re.compile("".join(literals))

    def names(self) -> list[str]:
        """Names of the values, in order."""
        return _PLACE.findall(self.text)

    def written(self, page: str, values: Mapping[str, str]) -> str:
        """``page`` with the values in the sentence; raises ValueError where it is not there exactly once."""
        found = list(self.pattern().finditer(page))
        if len(found) != 1:
            raise ValueError(f"{self.page} has this sentence {len(found)} times: {self.text}")
        for number in reversed(range(len(self.names()))):
            start, end = found[0].span(number + 1)
            page = page[:start] + values[self.names()[number]] + page[end:]
        return page


def _literal(text: str) -> str:
    """A literal part; a blank may be a line's end, in a comment as well."""
    return r"(?:\s|\n#\s|\n  )+".join(re.escape(word) for word in text.split(" "))


def figures_of(page: str) -> list[re.Match[str]]:
    """The figures of a page's prose: generated parts and code are left to the programs that write and run them."""
    spans = [match.span() for pattern in (_GENERATED, _FENCE, _CODE) for match in pattern.finditer(page)]
    return [match for match in FIGURE.finditer(page) if not _within(match, spans)]


def unnamed(page: str, named: list[tuple[int, int]]) -> list[str]:
    """Figures of a page's prose that no sentence or fact names; ``named`` are the spans of those that do."""
    return [
        " ".join(page[max(0, match.start() - 40) : match.end() + 20].split())
        for match in figures_of(page)
        if not _within(match, named)
    ]


def _within(match: re.Match[str], spans: list[tuple[int, int]]) -> bool:
    return any(start <= match.start() and match.end() <= end for start, end in spans)
