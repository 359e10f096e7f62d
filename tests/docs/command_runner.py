"""Runs command lines of ``qied`` and ``qied-client`` in processes of their own, which fork from this one.

It has imported both programs once, which takes most of the time of a short command. Reads a JSON object a line, and
answers each with one: the exit status and all that was printed.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
import traceback
from contextlib import suppress
from pathlib import Path

import qied_client.cli.main

import qied.cli.main

PROGRAMS = {"qied": qied.cli.main.main, "qied-client": qied_client.cli.main.main}
COLUMNS, ROWS = 80, 40


def run(order: dict) -> dict:
    """Run ``program`` with ``arguments`` in ``folder``, with ``environ``, in a terminal or not, for ``seconds``."""
    if order["terminal"]:
        child, output = pty.fork()
        if child == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            become(order)
    else:
        output, end = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(end, 1)
            os.dup2(end, 2)
            become(order)
        os.close(end)
    printed = everything(output, time.monotonic() + order["seconds"])
    if printed is None:
        os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(output)
    return {"status": status, "printed": "(too slow)" if printed is None else printed.decode(errors="replace")}


def become(order: dict) -> None:
    """In the child: the program, as if it had been started just now."""
    status = 1
    try:
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environ"])
        sys.argv = [str(Path(sys.executable).with_name(order["program"])), *order["arguments"]]
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115, PTH123
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        PROGRAMS[order["program"]]()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 (as an interpreter ends)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def everything(output: int, until: float) -> bytes | None:
    """All that is printed until the program ends; None where that takes too long."""
    printed = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([output], [], [], left)[0]:
            try:
                data = os.read(output, 65536)
            except OSError:  # the terminal has nobody left
                return printed
            if not data:
                return printed
            printed += data
    return None


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
