"""The units for systemd, with the path of the program that is to be started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from qied_client.errors import ConfigError, SetupError

from qied.hardware.user_folders import user_home

_PROGRAM = "@QIED@"


@dataclass(frozen=True)
class ServiceUnit:
    """A unit file: where it belongs, what is in it, and what to run once it is there."""

    path: Path
    text: str
    next_steps: tuple[str, ...]


def user_unit(environ: Mapping[str, str]) -> ServiceUnit:
    """The unit of one user; raises ConfigError where the user has no home folder, or the program has no usable path."""
    configured = Path(environ.get("XDG_CONFIG_HOME", ""))
    folder = (configured if configured.is_absolute() else user_home() / ".config") / "systemd" / "user"
    steps = (
        "systemctl --user daemon-reload",
        "systemctl --user enable --now qied",
        "loginctl enable-linger     # so that it also runs while you are logged out",
        "journalctl --user -u qied  # its log",
    )
    return ServiceUnit(folder / "qied.service", _text("qied-user.service"), steps)


def system_unit() -> ServiceUnit:
    """The unit of the machine; raises ConfigError where the program has no usable path."""
    steps = (
        "useradd --system --user-group --home-dir /var/lib/qied --shell /usr/sbin/nologin qied",
        "systemctl daemon-reload",
        "systemctl enable --now qied",
        "journalctl -u qied         # its log",
    )
    return ServiceUnit(Path("/etc/systemd/system/qied.service"), _text("qied-system.service"), steps)


def write(unit: ServiceUnit, *, replace: bool) -> bool:
    """Write the file; returns False where it is there already.

    Raises ConfigError where another one is there and ``replace`` is False, and SetupError where it cannot be written.
    """
    try:
        if unit.path.exists():
            if unit.path.read_text(encoding="utf-8") == unit.text:
                return False
            if not replace:
                raise ConfigError(
                    f"{unit.path} exists already, and differs.",
                    "Replace it with --replace; own changes belong into a drop-in (systemctl edit qied).",
                )
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        unit.path.write_text(unit.text, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"{unit.path} cannot be written: {error.strerror}.",
            "Run it with sudo, or write what 'qied service show' says.",
        ) from error
    return True


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace(_PROGRAM, _program())


def _program() -> str:
    """The path of ``qied`` as it was started, else next to this Python; blanks and % as systemd reads them."""
    started = Path(shutil.which(sys.argv[0]) or sys.argv[0])
    program = started if started.name == "qied" else Path(sys.executable).with_name("qied")
    path = Path(os.path.abspath(program))  # noqa: PTH100 - not resolve(): a link may lead to the program of each version
    if not path.is_file():
        raise ConfigError(
            f"The program {path} is not there, so that a service could not start it.",
            "Install qied with pip or uv first.",
        )
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if " " in text else text
