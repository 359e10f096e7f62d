"""The key file with which a client connects: where it is found, and how it is read."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from qied_client.errors import CredentialsMissing
from qied_client.net.address import read_address
from qied_client.system_failures import expanded, user_home

LOCAL_FILE = "local.key.json"
"""Name of the machine owner's own key file in the daemon's home folder."""
LOGIN_FILE = "key.json"
"""Name of the key file that ``login`` stores in the user's folder for configuration."""
VERSION = 1
OTHERS = stat.S_IRWXG | stat.S_IRWXO
WITHOUT_MODES = "Its file system keeps no Unix modes."
MOUNT_OPTION = "or mount that file system with the option umask=077"
_FIELDS = ("user", "endpoint", "server_key", "public_key", "secret_key")
_MAX_BYTES = 16 * 1024
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_START = "On the daemon's own machine, start it with 'qied serve'."
_ENROL = "Elsewhere, ask its owner for a key file ('qied keys add NAME' there), then: qied-client login FILE"
_ANOTHER = "Ask the owner of the daemon's machine for another one ('qied keys add NAME'), then: qied-client login FILE"


@dataclass(frozen=True)
class Credential:
    """What a client needs to be let in: its name, the daemon's address and CURVE keys as Z85 text (40 characters)."""

    user: str
    endpoint: str
    server_key: str
    public_key: str
    secret_key: str = field(repr=False)


def default_home(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The folder where the daemon of this user keeps its state.

    QIED_HOME, else what the system provides for it; empty variables count as absent, and so does an XDG_STATE_HOME
    that is not absolute. Raises ConfigError where nothing tells it.
    """
    if named := environ.get("QIED_HOME"):
        return expanded(Path(named))
    user = Path(environ.get("USERPROFILE" if platform == "win32" else "HOME") or user_home())
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or user / "AppData" / "Local") / "qied"
    if platform == "darwin":
        return user / "Library" / "Application Support" / "qied"
    state = environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else user / ".local" / "state") / "qied"


def login_file(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The key file that ``login`` stores: ``qied/key.json`` in the user's folder for configuration.

    That folder is XDG_CONFIG_HOME or ~/.config, ~/Library/Application Support on macOS, APPDATA on Windows. Raises
    ConfigError where nothing tells it.
    """
    user = Path(environ.get("USERPROFILE" if platform == "win32" else "HOME") or user_home())
    if platform == "win32":
        folder = Path(environ.get("APPDATA") or user / "AppData" / "Roaming")
    elif platform == "darwin":
        folder = user / "Library" / "Application Support"
    else:
        named = Path(environ.get("XDG_CONFIG_HOME", ""))
        folder = named if named.is_absolute() else user / ".config"
    return folder / "qied" / LOGIN_FILE


def find_credential(environ: Mapping[str, str], explicit: Path | None = None) -> Credential:
    """Read the file ``explicit``, else the one that QIED_KEY names, that of ``login``, or the local daemon's own.

    A file that is named is used even if it is missing, and that of ``login`` if there is one. Raises ConfigError where
    no home folder is known, and CredentialsMissing, whose details say ``absent`` where there is no key at all.
    """
    if explicit is not None:
        return read_credential(expanded(explicit))
    if named := environ.get("QIED_KEY"):
        return read_credential(expanded(Path(named)))
    stored, local = login_file(environ), default_home(environ) / LOCAL_FILE
    if os.path.lexists(stored):
        return read_credential(stored)
    if not os.path.lexists(local):
        raise CredentialsMissing(f"There is no key file {local}, and no login.", f"{_START} {_ENROL}", absent=True)
    return read_credential(local)


def read_credential(path: Path, *, guarded: bool = True) -> Credential:
    """Read one key file; raises CredentialsMissing with what to do where it is absent, unsafe or malformed.

    Unsafe is one that others can read; without ``guarded`` it is read as well.
    """
    try:
        with path.open("rb") as file:
            if guarded:
                _refuse_access_by_others(path, os.fstat(file.fileno()).st_mode)
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise CredentialsMissing(f"There is no key file {path}.", f"{_START} {_ENROL}") from error
    except OSError as error:
        raise CredentialsMissing(f"The key file {path} cannot be read: {error.strerror}.", _ANOTHER) from error
    return _parse(path, content)


def is_key(text: object) -> TypeGuard[str]:
    """Whether ``text`` is a CURVE key as Z85: 40 characters that stand for 32 bytes."""
    if not isinstance(text, str) or len(text) != 40 or not set(text) <= set(_Z85):
        return False
    return all(_z85_word(text[start : start + 5]) < 2**32 for start in range(0, 40, 5))


def _z85_word(characters: str) -> int:
    word = 0
    for character in characters:
        word = word * 85 + _Z85.index(character)
    return word


def _refuse_access_by_others(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & OTHERS:
        raise CredentialsMissing(
            f"The key file {path} is open to other users of this machine (mode {stat.S_IMODE(mode):o}).",
            f"Run: chmod 600 {shlex.quote(str(path))}"
            if keeps_modes(path.parent)
            else f"{WITHOUT_MODES} Copy the file to your home folder and name it there with --key, {MOUNT_OPTION}.",
        )


def keeps_modes(folder: Path) -> bool:
    """Whether files in ``folder`` can be closed to others: not on NTFS, exFAT, SMB and some mounts of containers."""
    probe = folder / f".{secrets.token_hex(8)}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return True  # nothing can be tried there
    try:
        return not os.fstat(descriptor).st_mode & OTHERS
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def _parse(path: Path, content: bytes) -> Credential:
    if len(content) > _MAX_BYTES:
        raise CredentialsMissing(f"{path} is not a qied key file: it has more than {_MAX_BYTES} bytes.", _ANOTHER)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CredentialsMissing(f"{path} is not a qied key file: it is not JSON.", _ANOTHER) from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise CredentialsMissing(f"{path} is not a key file of version {VERSION}.", f"Upgrade qied-client. {_ANOTHER}")
    found = {name: text for name in _FIELDS if (text := _text(name, values.get(name))) is not None}
    if wrong := [name for name in _FIELDS if name not in found]:
        raise CredentialsMissing(f"The key file {path} lacks a valid {', '.join(wrong)}.", _ANOTHER)
    try:
        read_address(found["endpoint"])
    except ValueError as error:
        raise CredentialsMissing(f"The key file {path}: endpoint: {error}.", "Correct it in the file.") from error
    return Credential(**found)


def _text(name: str, value: object) -> str | None:
    """``value`` where it is a text that the field ``name`` can have."""
    valid = is_key(value) if name.endswith("_key") else bool(value)
    return value if valid and isinstance(value, str) else None
