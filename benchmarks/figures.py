"""Writes the figures in the prose of every page from results; with --check it only compares. Measures nothing itself.

``figures.toml`` has each sentence with the names of its values, and each fact that nobody measured with its source.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from figures_bench.prose import Sentence, unnamed
from figures_bench.values import RESULTS, values

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("figures.toml")


def problems(root: Path = ROOT, *, write: bool = False, results: Path = RESULTS) -> list[str]:
    """What is wrong with the pages below ``root``; with ``write`` their sentences are written anew first."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    found, known = [], values(results)
    for name in listed["pages"]:
        path = root / name
        page = path.read_text(encoding="utf-8")
        sentences = [Sentence(name, each["text"]) for each in listed["sentence"] if each["page"] == name]
        facts = [Sentence(name, each["text"]) for each in listed["fact"] if each["page"] == name]
        spans, wanted = [], page
        for sentence in sentences:
            try:
                wanted = sentence.written(wanted, known)
            except ValueError as error:
                found.append(str(error))
        if write:
            path.write_text(wanted, encoding="utf-8")
            page = wanted
        elif wanted != page:
            pairs = zip(page.splitlines(), wanted.splitlines(), strict=True)
            found += [f"{name} says: {old.strip()}\n  results say: {new.strip()}" for old, new in pairs if old != new]
        for each in (*sentences, *facts):
            matches = list(each.pattern().finditer(page))
            spans += [match.span() for match in matches]
            if not matches and each in facts:
                found.append(f"{name} does not say this fact of figures.toml any more: {each.text}")
        found += [f"{name} has a figure that no result or fact holds: ...{each}..." for each in unnamed(page, spans)]
    return found


def main() -> int:
    """Write or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    found = problems(write=not parser.parse_args().check)
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
