"""Checks of the state folder: private, writable, on a disk of this machine, its keys whole, and room for more."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path, PurePosixPath

from qied_client.credentials import LOCAL_FILE, read_credential
from qied_client.errors import CredentialsMissing
from qied_client.text import size_text

from qied.config import Config
from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning
from qied.doctor.mounts import mount_of
from qied.server.access.keys import KeyStore
from qied.server.access.private_files import closing_others_out, refuse_access_by_others

_OTHERS = 0o077
_MOUNTS = Path("/proc/mounts")


def guarded(ask: Callable[[Facts], Verdict]) -> Callable[[Facts], Verdict]:
    """Wraps a check: a folder on the way that this user may not enter is an error of the machine."""

    @wraps(ask)
    def asked(facts: Facts) -> Verdict:
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                (facts.home / "keys").stat()  # later Pythons take what cannot be reached for what is not there
            return ask(facts)
        except PermissionError as problem:
            place = str(facts.home)
            return error(
                f"{problem.filename or place} cannot be reached: this user may not enter a folder on the way.",
                f"Name another folder with --home, or: sudo chown -R $USER {shlex.quote(place)}",
            )

    return asked


@guarded
def folder(facts: Facts) -> Verdict:
    """The daemon can write its state, and no other user can read it."""
    home = facts.home
    base = nearest_existing(home)
    if not base.is_dir():
        return error(f"{base} is a file, so {home} cannot hold the daemon's state.", "Name another folder with --home.")
    if not os.access(base, os.W_OK | os.X_OK):
        return error(
            f"{base} cannot be written to by this user.",
            f"Name another folder with --home, or: sudo chown -R $USER {shlex.quote(str(base))}",
        )
    if base != home:
        return ok(f"{home} is made at the first start.")
    mode = home.stat().st_mode & 0o777
    if sys.platform != "win32" and mode & _OTHERS:
        return warning(
            f"{home} is open to other users of this machine (mode {mode:o}).",
            closing_others_out(home, f"chmod 700 {shlex.quote(str(home))}"),
        )
    return ok(f"{home} is private and writable.")


@guarded
def keys(facts: Facts) -> Verdict:
    """The daemon's keys are whole, and no other user can read them."""
    place = facts.home / "keys"
    if not (place / "server.key").exists():
        return ok("Keys are made at the first start.")
    refuse_access_by_others(place, "700")
    if not (place / "clients").is_dir():
        return ok("No client is enrolled yet.")
    store = KeyStore(facts.home)  # with all of its folders there, it makes none
    store.server_keys()
    enrolled = store.list()
    try:
        if (facts.home / LOCAL_FILE).exists():
            read_credential(facts.home / LOCAL_FILE)
    except CredentialsMissing as problem:
        return error(problem.message, problem.remedy)
    return ok(f"{len(enrolled)} enrolled: {', '.join(client.name for client in enrolled)}.")


@guarded
def disk(facts: Facts) -> Verdict:
    """The disk has room for what the configuration lets the daemon keep."""
    assert isinstance(facts.config, Config)
    storage = facts.config.storage
    free = shutil.disk_usage(nearest_existing(facts.home)).free
    usable = max(0, free - storage.free_reserve_bytes)
    wanted = max(0, storage.blob_bytes - _stored_bytes(facts.home / "blobs"))
    if usable == 0:
        return error(
            f"{size_text(free)} is free where {facts.home} is, less than storage.free_reserve_bytes.",
            "Free some space, or name a folder on another disk with --home.",
        )
    if usable < wanted:
        return warning(
            f"{size_text(free)} is free where {facts.home} is; pictures may take {size_text(wanted)} more.",
            "Free some space, or lower storage.blob_bytes.",
        )
    return ok(f"{size_text(free)} free, {size_text(wanted)} of them for pictures.")


@guarded
def file_system(facts: Facts) -> Verdict:
    """The file system is one of this machine, where locks and the journal's shared memory work."""
    base = nearest_existing(facts.home).resolve()
    try:
        found = mount_of(PurePosixPath(base), _MOUNTS.read_text(errors="replace"))
    except OSError:
        found = None
    if found is None:
        return skipped("This system does not list its file systems.")
    if found.remote:
        return warning(
            f"{facts.home} is on {found.place}, a {found.kind} file system, whose files another machine or system "
            "keeps.",
            "Name a folder on a disk of this machine with --home; under WSL2 one outside of /mnt/c, such as in ~.",
        )
    return ok(f"{found.place} is {found.kind}.")


def nearest_existing(path: Path) -> Path:
    """``path``, or the lowest folder above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _stored_bytes(blobs: Path) -> int:
    return sum(file.stat().st_size for file in blobs.glob("*/*") if file.is_file())


CHECKS = (
    Check("state.folder", "It holds jobs, prompts, pictures and keys.", folder, local=True),
    Check(
        "state.keys",
        "Anyone who can read a key can use the daemon; a damaged one locks its owner out.",
        keys,
        local=True,
    ),
    Check(
        "state.file_system",
        "Without its locks a second daemon could start, and the journal could be damaged.",
        file_system,
        local=True,
    ),
    Check(
        "state.disk",
        "Uploads and results are refused if there is no room.",
        disk,
        local=True,
        configured=True,
    ),
)
