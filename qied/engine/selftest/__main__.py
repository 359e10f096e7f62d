"""The self-test's process: ``facts`` prints what torch is, ``run`` runs a suite of trials."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

from qied.child_process import leave_with_parent, load_by_name
from qied.engine.selftest.child import run_suite
from qied.hardware.trial_lines import Line


def main(arguments: list[str]) -> int:
    """``facts``, or ``run SUITE [TRIAL...]`` with the trials to leave out; returns the exit status."""
    answers = _own_output()
    if arguments[:1] == ["facts"]:
        from qied.engine.selftest.facts import facts

        answers.write(json.dumps(facts()))
        answers.flush()
        return 0
    leave_with_parent()

    def report(line: Line) -> None:
        answers.write(line.model_dump_json() + "\n")
        answers.flush()

    run_suite(load_by_name(arguments[1])(), arguments[2:], report)
    return 0


def _own_output() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
