"""The hub over HTTP: what a repository holds, and one file at a time, from where an earlier attempt stopped.

The hub's own library throws away what it has of a file when a download breaks off (since 1.18), and files here have
up to 10 GB. So bytes are read here, with the library's session, headers and errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx
from qied_client.errors import DownloadFailed

from qied import __version__
from qied.disk_sync import sync_file
from qied.downloads.partial import Partial
from qied.downloads.wanted import Listing, RemoteFile

WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt; the count restarts with every byte received."""
_TIMEOUT_S: Final = constants.HF_HUB_DOWNLOAD_TIMEOUT
_PASSING: Final = (408, 429, 500, 502, 503, 504)
"""Answers that may be others a moment later."""


def list_files(repository: str, revision: str, endpoint: str | None = None) -> Listing:
    """Ask the hub for the files of a repository and the commit that ``revision`` stands for.

    Raises DownloadFailed for an answer that is not a listing, and whatever the library does for those that fail.
    """
    api = HfApi(endpoint=endpoint, library_name="qied", library_version=__version__)
    try:
        info = api.model_info(repository, revision=revision, files_metadata=True)
        return Listing(repository, str(info.sha), tuple(_file(sibling) for sibling in info.siblings or ()))
    except HfHubHTTPError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DownloadFailed(
            f"{api.endpoint} did not answer with the files of {repository}.",
            "Check HF_ENDPOINT, and whether a proxy or a login page answers in its place.",
        ) from error


def _file(sibling: RepoSibling) -> RemoteFile:
    known = sibling.blob_id if sibling.lfs is None else sibling.lfs.sha256
    if sibling.size is None or known is None:
        raise ValueError(f"no size or no hash of {sibling.rfilename}")
    return RemoteFile(sibling.rfilename, int(sibling.size), str(known))


def address_of(file: RemoteFile, listing: Listing, endpoint: str | None = None) -> str:
    """The URL of one file at the commit of the listing."""
    return hf_hub_url(listing.repository, file.path, revision=listing.commit, endpoint=endpoint)


def fetch(
    address: str, partial: Path, file: RemoteFile, on_bytes: Callable[[int], None], waits_s: Sequence[float] = WAITS_S
) -> None:
    """Bring ``partial`` to all bytes of ``file``, from the end of what it holds, and all of them to the disk.

    ``on_bytes`` hears of each piece, and of a negative number if a server cannot resume and starts over. Connections
    that break are made again, after each of ``waits_s`` in turn for as long as nothing comes. Raises DownloadFailed for
    more bytes than listed, and whatever the library, the network and the disk do; ``partial`` is kept. Bytes without
    the listed hash are removed, and raise DownloadFailed as well.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    # Not in append mode: two processes on it, where locks do not work, would write the same bytes to the same place.
    with partial.open("r+b") as stored:
        gathered = Partial(stored, file)
        failures = 0
        while gathered.lacks:
            before = gathered.bytes
            problem = _attempt(address, gathered, file.bytes, on_bytes)
            failures = 0 if gathered.bytes > before else failures
            if problem is not None:
                if failures == len(waits_s):
                    raise problem
                time.sleep(waits_s[failures])
                failures += 1
        # What gets its name next is taken to be whole by its size.
        stored.flush()
        sync_file(stored.fileno())
    if not gathered.is_right:
        partial.unlink()
        raise DownloadFailed(
            f"{file.path} came with other bytes than the hub lists: its hash is not {file.hash[:12]}….",
            "The same command fetches it again. If it stays so, check HF_ENDPOINT and whether a proxy answers instead.",
            path=file.path,
        )


def _attempt(address: str, gathered: Partial, size: int, on_bytes: Callable[[int], None]) -> Exception | None:
    """Read one answer to its end; returns what broke it off, if another attempt may go better."""
    at = gathered.bytes
    headers = build_hf_headers(library_name="qied", library_version=__version__)
    # Only plain bytes can be continued at a position.
    headers |= {"Accept-Encoding": "identity"} | ({"Range": f"bytes={at}-"} if at else {})
    try:
        with get_session().stream("GET", address, headers=headers, timeout=_TIMEOUT_S) as answer:
            hf_raise_for_status(answer)
            if at and answer.status_code != 206:
                on_bytes(-at)
                gathered.restart()
            for piece in answer.iter_bytes():
                if not gathered.fits(piece):
                    raise DownloadFailed(
                        f"{address} sent more than the {size} bytes listed.",
                        "Check HF_ENDPOINT, and whether a proxy answers in its place.",
                    )
                gathered.append(piece)
                on_bytes(len(piece))
    except HfHubHTTPError as error:
        if error.response.status_code not in _PASSING:
            raise
        return error
    except httpx.TransportError as error:
        return error
    if gathered.lacks:
        return DownloadFailed(f"{address} ends after {gathered.bytes} of {size} bytes.", "Try again later.")
    return None
