"""The long checks of files: weights and stored pictures are read whole and compared with their hashes."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from qied_client.text import size_text

from qied.doctor.checks.state import guarded
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped
from qied.doctor.weight_files import known_hash, weight_files
from qied.progress import OnProgress
from qied.serving.model import ServedModel

_CHUNK = 4 * 1024 * 1024
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def weights(facts: Facts, watch: OnProgress) -> Verdict:
    """Each weight file can be read, and has the hash that it was downloaded with."""
    if not isinstance(facts.model, ServedModel):
        return skipped("There is no model.")
    folder = facts.model.origin
    files = weight_files(facts.model)
    total, done, untold = sum(file.stat().st_size for file in files), 0, 0
    for file in files:
        wanted = known_hash(file, folder)
        digest = hashlib.sha256()
        try:
            for chunk in _chunks(file):
                if wanted is not None:
                    digest.update(chunk)
                done += len(chunk)
                watch("reading the weights", done, total)
        except OSError as problem:
            return error(f"{file} cannot be read: {problem.strerror}.", "Check that disk, then download it again.")
        if wanted is None:
            untold += 1
        elif digest.hexdigest() != wanted:
            return error(
                f"{file} does not match its download checksum.", _remove(file.resolve()) + ", then download it again."
            )
    if untold:
        return skipped(
            f"All {len(files)} weight files ({size_text(total)}) can be read; {untold} have no known checksum."
        )
    return ok(f"{len(files)} weight files ({size_text(total)}) match their checksums.")


def blobs(facts: Facts, watch: OnProgress) -> Verdict:
    """Each stored picture has the hash that is its name. Nothing is removed."""
    return guarded(lambda facts: _blobs(facts, watch))(facts)


def _blobs(facts: Facts, watch: OnProgress) -> Verdict:
    files = [file for file in sorted((facts.home / "blobs").glob("[0-9a-f][0-9a-f]/*")) if _HASH.fullmatch(file.name)]
    damaged = []
    for number, file in enumerate(files, 1):
        digest = hashlib.sha256()
        try:
            for chunk in _chunks(file):
                digest.update(chunk)
        except FileNotFoundError:
            continue  # a running daemon has released it since
        except OSError as problem:
            return error(f"{file} cannot be read: {problem.strerror}.", "Check that disk.")
        if digest.hexdigest() != file.name:
            damaged.append(file)
        watch("reading stored pictures", number, len(files))
    if not damaged:
        return ok(f"{len(files)} stored pictures match their hashes.")
    return error(
        f"{len(damaged)} of {len(files)} stored pictures are damaged, first {damaged[0]}.",
        f"Check that disk. {_remove(damaged[0])}, and upload it again.",
    )


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _remove(file: Path) -> str:
    return f"rm {shlex.quote(str(file))}"
