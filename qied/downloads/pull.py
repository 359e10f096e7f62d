"""One pull from start to end: find the missing files, check that they fit, fetch them one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.utils import WeakFileLock
from qied_client.errors import DownloadFailed

from qied.downloads.failures import typed_failures
from qied.downloads.hub import WAITS_S, address_of, fetch, list_files
from qied.downloads.places import HubCache, Place, PlainFolder, nearest_folder
from qied.downloads.wanted import Listing, Missing, RemoteFile, check_room, missing, wanted_files
from qied.planning.profiles.model_profile import Download

_LOCK_S = 0.5

OnFileProgress = Callable[[RemoteFile, int, int], None]
"""Hears which file is being fetched, and bytes fetched and to fetch in all."""


@dataclass(frozen=True)
class Pull:
    """One pull: of the ``wanted`` files, fetch the missing ones into ``place``."""

    listing: Listing
    place: Place
    wanted: tuple[RemoteFile, ...]
    missing: Missing
    endpoint: str | None = None


def prepare(
    download: Download,
    *,
    cache: Path,
    folder: Path | None = None,
    only: Iterable[str] = (),
    endpoint: str | None = None,
) -> Pull:
    """List the files on the hub and find those already in ``cache``, or in the plain ``folder``; writes nothing.

    Raises InvalidRequest, ModelNotFound and DownloadFailed.
    """
    with typed_failures(download.repository, endpoint):
        listing = list_files(download.repository, download.revision, endpoint)
        wanted = wanted_files(listing, download.files, only)
        place: Place = (
            HubCache(cache, listing, download.revision, endpoint) if folder is None else PlainFolder(folder, listing)
        )
        return Pull(listing, place, wanted, missing(map(place.stock, wanted)), endpoint)


def carry_out(pull: Pull, reserve_bytes: int, on_progress: OnFileProgress, waits_s: Sequence[float] = WAITS_S) -> Path:
    """Fetch what is missing; returns the folder that the files are in.

    Raises DiskFull before anything is written where ``reserve_bytes`` would not stay free; DownloadFailed; and
    ModelNotFound. Downloaded bytes are kept, to resume from.
    """
    place = pull.place
    around = nearest_folder(place.folder)
    with typed_failures(pull.listing.repository, pull.endpoint):
        check_room(pull.missing.bytes, shutil.disk_usage(around).free, reserve_bytes, around)
        if pull.missing.stocks:
            with _alone(place):
                _fetch_all(pull, on_progress, waits_s)
    return place.folder


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Lock out a second pull of the same files; raises DownloadFailed if this is the second."""
    place.lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(WeakFileLock(place.lock, timeout=_LOCK_S))
        except TimeoutError as error:
            raise DownloadFailed(
                f"Another process is pulling into {place.folder}.", "Wait for it, or stop it first."
            ) from error
        yield


def _fetch_all(pull: Pull, on_progress: OnFileProgress, waits_s: Sequence[float]) -> None:
    place, done, total = pull.place, 0, pull.missing.bytes
    for stock in pull.missing.stocks:
        file = stock.file

        def came(count: int, file: RemoteFile = file) -> None:
            nonlocal done, total
            done += max(count, 0)
            total -= min(count, 0)  # what a server sends anew was not counted as to be fetched
            on_progress(file, done, total)

        # Looked at again, since two files may have one content.
        if stock.state == "partial" and place.stock(file).state == "partial":
            came(0)
            partial = place.partial(file)
            fetch(address_of(file, pull.listing, pull.endpoint), partial, file, came, waits_s)
            stock.content.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(stock.content)
        place.settle(file)
    place.finish()
