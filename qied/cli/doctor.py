"""``qied doctor``: what works here, what does not, and what to change. It changes nothing."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import tempfile
import traceback
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from qied_client.cli.bar import Bar
from qied_client.cli.failures import show_failure
from qied_client.credentials import default_home
from qied_client.errors import ConfigError, QiedError
from qied_client.system_failures import system_failure
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from qied.cli.machine import read_machine, usual_config
from qied.cli.profiles import user_profiles_folder
from qied.config import Config, LoadedConfig, load_config
from qied.doctor.bundle import Bundle, Identity
from qied.doctor.catalogue import CHECKS
from qied.doctor.checkup import Checkup, joined, run_checks
from qied.doctor.deep import DeepChecks, not_deep
from qied.doctor.deep_trial import run_trial
from qied.doctor.examine import examine
from qied.doctor.facts import Facts
from qied.doctor.meters import MeterOf, card_meter, host_meter
from qied.doctor.report import document, show
from qied.hardware.selftest import measured
from qied.hardware.snapshot import Gpu, Snapshot
from qied.hardware.user_folders import user_home
from qied.log_file import LOG_FOLDER
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import all_hardware_profiles
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import wishes_of
from qied.serving.model import ServedModel, without_files
from qied.serving.plan import plan_for

FAILED = 3
"""Exit status where the doctor itself failed."""
_WHAT_COLUMNS = 44


def doctor(
    snapshot: Annotated[Path | None, typer.Option(help="Check the machine recorded in this 'qied probe' file.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every file and run an edit; takes minutes.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 on warnings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Write a zip for a bug report, without names or keys.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder, transformer file, or 'builtin'.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: ./qied.toml if it exists.")] = None,
    home: Annotated[Path | None, typer.Option(help="State folder of the daemon; default: QIED_HOME.")] = None,
) -> None:
    """Check what works here and what does not, and say what to change; it changes nothing.

    Exit status: 0 healthy, 1 warnings with --strict, 2 errors, 3 the doctor itself failed.
    """
    try:
        status = _examine(_Asked(snapshot, deep, strict, as_json, bundle, model, config, home))
    except QiedError as problem:
        show_failure(problem)
        status = FAILED
    except OSError as problem:
        show_failure(system_failure(problem))
        status = FAILED
    except Exception:  # noqa: BLE001 - whatever it was, it is the doctor that failed, not the machine
        traceback.print_exc()
        status = FAILED
    raise typer.Exit(status)


@dataclass(frozen=True)
class _Asked:
    """The command line."""

    snapshot: Path | None
    deep: bool
    strict: bool
    as_json: bool
    bundle: Path | None
    model: str | None
    config: Path | None
    home: Path | None


def _examine(asked: _Asked) -> int:
    """Examine, report, and return the exit status; raises QiedError if the doctor cannot do its work."""
    person = user_home()
    loaded = _configuration(asked)
    with _Waiting() as waiting:
        machine = _machine(asked, waiting)
        facts = examine(
            machine,
            loaded,
            _planned,
            this_machine=asked.snapshot is None,
            home=default_home(os.environ) if asked.home is None else asked.home,
            user_home=person,
            environ=os.environ,
        )
        checkup, log = _checkup(asked, facts, waiting)
    if asked.bundle is not None:
        identity = Identity(person, _user(), socket.gethostname(), facts.home.absolute())
        made = Bundle(machine, document(checkup, facts), checkup, loaded, log, facts.home / LOG_FOLDER)
        made.write(asked.bundle, identity)
    _say(asked, facts, checkup)
    return checkup.summary.exit_status(asked.strict)


def _configuration(asked: _Asked) -> LoadedConfig | ConfigError:
    try:
        return load_config(usual_config(asked.config), os.environ, {"model.path": asked.model})
    except ConfigError as problem:
        return problem


def _user() -> str:
    """The user's name; empty for one without an entry in the system, as in a container started with --user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _machine(asked: _Asked, waiting: _Waiting) -> Snapshot:
    """The snapshot; a deep look measures again. Nothing of either is kept."""
    machine = read_machine(asked.snapshot, read_only=True)
    if not asked.deep or asked.snapshot is not None or not machine.gpus:
        return machine
    with tempfile.TemporaryDirectory(prefix="qied-doctor-") as folder:
        caches = {"XDG_CACHE_HOME": folder, "CUDA_CACHE_PATH": folder}
        return measured(machine, environ={**os.environ, **caches}, on_progress=waiting, fresh=True, read_only=True)


def _planned(machine: Snapshot, model: ModelProfile, config: LoadedConfig) -> Plan | Refusal:
    served = without_files(model, model.name, config.config.model)
    return plan_for(machine, served, config.config, wishes_of(config), all_hardware_profiles(user_profiles_folder()))


def _checkup(asked: _Asked, facts: Facts, waiting: _Waiting) -> tuple[Checkup, tuple[str, ...]]:
    """All findings, and the log of the trial daemon where one was started."""
    quick = run_checks(CHECKS, facts)
    if not asked.deep:
        return joined([quick, run_checks(not_deep(), facts)]), ()

    card = _planned_card(facts)
    meters: AbstractContextManager[MeterOf] = host_meter() if card is None else card_meter(card)
    environ = dict(os.environ) | ({} if card is None else {"QIED_MODEL_GPUS": card.uuid or str(card.index)})
    deep = DeepChecks(waiting, lambda: run_trial(_serve_arguments(asked, facts), environ, meters, waiting))
    return joined([quick, run_checks(deep.checks, facts)]), deep.log


def _serve_arguments(asked: _Asked, facts: Facts) -> list[str]:
    """The arguments that give ``qied serve`` the same model and configuration.

    A model that was found by searching is named, since the daemon's cache folder is another one.
    """
    model = asked.model
    if not model and isinstance(facts.model, ServedModel) and isinstance(facts.config, Config):
        model = facts.config.model.path or str(facts.model.origin)
    given = (("--model", model), ("--config", asked.config))
    return [text for name, value in given if value is not None for text in (name, str(value))]


def _planned_card(facts: Facts) -> Gpu | None:
    """The card of the plan, on which an edit is tried and measured; None for the CPU."""
    return next((gpu for gpu in facts.gpus if facts.plan_of(gpu) is not None), None)


def _say(asked: _Asked, facts: Facts, checkup: Checkup) -> None:
    for trace in checkup.traces.values():
        sys.stderr.write(trace)
    if asked.as_json:
        typer.echo(json.dumps(document(checkup, facts), indent=2))
        return
    console = Console(highlight=False)
    show(console, facts.snapshot, checkup, facts.made_plan)
    if asked.bundle is not None:
        console.print(f"bundle   {asked.bundle}", markup=False)


class _Waiting(Bar):
    """What takes long: a bar in a terminal, elsewhere a line for each thing that begins."""

    def __init__(self) -> None:
        text = TextColumn(f"{{task.description:<{_WHAT_COLUMNS}}}", markup=False)
        super().__init__(text, BarColumn(bar_width=24), TimeElapsedColumn())
        self._said = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show what is done now, and how much of it is; 0 of 0 where nothing counts it."""
        begins = what != self._said
        self._said = what
        self.show(what[:_WHAT_COLUMNS], done, total or None, anew=begins)
        if begins and not self.console.is_terminal:
            self.console.print(what, soft_wrap=True)
