"""The self-test's process: ``facts`` prints what torch is, ``run`` runs a suite of trials."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TextIO

from qied.engine.selftest.child import load_suite, run_suite
from qied.hardware.trial_lines import Line


def main(arguments: list[str]) -> int:
    """``facts``, or ``run SUITE [TRIAL...]`` with the trials to leave out; returns the exit status."""
    answers = _own_output()
    if arguments[:1] == ["facts"]:
        from qied.engine.selftest.facts import facts

        answers.write(json.dumps(facts()))
        answers.flush()
        return 0
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()

    def report(line: Line) -> None:
        answers.write(line.model_dump_json() + "\n")
        answers.flush()

    run_suite(load_suite(arguments[1]), arguments[2:], report)
    return 0


def _own_output() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _leave_with_parent() -> None:
    """Standard input ends when the parent does, even if that was killed: then nothing waits for this process."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
