"""A zip for a bug report: the doctor's facts and findings, without names, keys, prompts or addresses."""

from __future__ import annotations

import json
import platform
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qied_client
import zmq
from qied_client.errors import ConfigError

import qied
from qied.config import LoadedConfig
from qied.doctor.checkup import Checkup
from qied.hardware.snapshot import Snapshot
from qied.log_file import newest_lines

_LOG_LINES = 200
_DAEMON_LINES = 2_000
_LOG_FIELDS = frozenset(
    (
        *("event", "level", "timestamp", "part", "model", "precision", "problem", "exception", "error", "worker"),
        *("trouble", "remedy", "how", "by_itself", "state", "code", "deaths", "withheld_bytes", "budget_bytes"),
        "resident_blocks",
    )
)
"""What may leave of a log line: prompts, keys, names and addresses are in the others."""
_HOMES = re.compile(r"(?:/home/|/Users/)[^/\s\"':]+|[A-Za-z]:\\Users\\[^\\\"':\r\n]+")
_KEY = re.compile(r"(?<![^\s\"'=:(])[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}(?![^\s\"',.)])")
"""Forty characters of Z85 that stand by themselves."""
_HOST = re.compile(r"(?P<scheme>tcp://)(?!127\.|localhost|0\.0\.0\.0|\*|\[::1?\])(?:\[[^\]\s]*\]|[^:/\s]+)")
_UUID = re.compile(r"\b(?:GPU|MIG)-[0-9a-fA-F-]{8,}")
_PLAIN_USERS = frozenset({"", "root"})

README = """The findings of `qied doctor --bundle`. Home folders are written as ~, names of people and machines as
<user> and <host>.
It contains no keys, prompts or pictures; read it before you send it.
"""


@dataclass(frozen=True)
class Identity:
    """What tells who somebody is: the home folder, the user's and the machine's name, and the state folder."""

    home: Path
    user: str
    host: str
    state: Path

    def scrub(self, value: Any) -> Any:
        """``value`` (as of JSON) with all of that taken out of its texts; keys of objects stay."""
        if isinstance(value, dict):
            return {key: self.scrub(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for path, short in ((self.state, "<state>"), (self.home, "~")):
            if len(path.parts) > 1:
                text = text.replace(str(path), short)
        text = _HOMES.sub("~", text)
        text = _HOST.sub(r"\g<scheme><host>", text)
        text = _UUID.sub("<uuid>", text)
        text = _KEY.sub("<key>", text)
        for name, short in ((self.user, "<user>"), (self.host, "<host>"), (self.host.partition(".")[0], "<host>")):
            if name not in _PLAIN_USERS:
                text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", short, text)
        return text


@dataclass(frozen=True)
class Bundle:
    """What goes into the zip; ``log`` are lines of JSON of a daemon that was tried, the newest last.

    The daemon's own log files are in ``log_folder``.
    """

    snapshot: Snapshot
    document: dict[str, Any]
    checkup: Checkup
    config: LoadedConfig | ConfigError
    log: Sequence[str] = ()
    log_folder: Path | None = None

    def write(self, path: Path, identity: Identity) -> None:
        """Write the zip; raises ConfigError where it cannot be written."""
        try:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("README.txt", README)
                for name, value in self._parts():
                    archive.writestr(name, json.dumps(identity.scrub(value), indent=1) + "\n")
                archive.writestr("log.jsonl", _scrubbed(self.log[-_LOG_LINES:], identity))
                for file in () if self.log_folder is None else sorted(self.log_folder.glob("*.jsonl")):
                    archive.writestr(f"log/{file.name}", _scrubbed(newest_lines(file, _DAEMON_LINES), identity))
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}.", "Name another file with --bundle."
            ) from error

    def _parts(self) -> list[tuple[str, Any]]:
        document = dict(self.document)
        return [
            ("snapshot.json", self._machine()),
            ("plan.json", document.pop("plan")),
            ("findings.json", document),
            ("broken_checks.json", self.checkup.traces),
            ("config.json", _effective(self.config)),
            ("versions.json", _versions(self.snapshot)),
        ]

    def _machine(self) -> dict[str, Any]:
        """The snapshot, still readable as one, without what names this very card."""
        machine: dict[str, Any] = json.loads(self.snapshot.to_json())
        for gpu in machine["gpus"]:
            gpu["uuid"] = None
        return machine


def _effective(config: LoadedConfig | ConfigError) -> dict[str, Any]:
    """Each value of the configuration, and where it came from."""
    if not isinstance(config, LoadedConfig):
        return {"error": config.message}
    values = config.config.model_dump(mode="json")
    return {
        f"{section}.{key}": {"value": value, "source": config.sources[f"{section}.{key}"]}
        for section, keys in values.items()
        for key, value in keys.items()
    }


def _versions(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "qied": qied.__version__,
        "qied_client": qied_client.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libzmq": zmq.zmq_version(),
        "torch": None if snapshot.torch is None else snapshot.torch.version,
        **snapshot.packages,
    }


def _scrubbed(lines: Sequence[str], identity: Identity) -> str:
    """Lines of a log as they may leave."""
    return "".join(json.dumps(identity.scrub(line)) + "\n" for line in map(_log_line, lines))


def _log_line(line: str) -> dict[str, Any]:
    """What may leave of one line; of one that is not JSON, that there was one."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return {"event": "a line that is not JSON was left out"}
    return {key: value for key, value in values.items() if key in _LOG_FIELDS}
