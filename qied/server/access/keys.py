"""The daemon's CURVE key pair, and who is let in: one small file for each enrolled client."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeGuard

import structlog
import zmq
from qied_client.credentials import LOCAL_FILE, VERSION, Credential, is_key, read_credential
from qied_client.errors import ConfigError, CredentialsMissing, InvalidRequest

from qied.server.access.private_files import create_private, private_folder, refuse_access_by_others, replace_private

LOCAL_USER = "local"
"""The name under which the machine's owner is enrolled."""
KeyStamp = tuple[tuple[str, int, int], ...]
"""Names, inode numbers and modification times (nanoseconds) of the files of all clients."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_FILE = re.compile(r"[a-z0-9].*\.json", re.ASCII)
_ROLE = re.compile(r"daemon|worker(-.*)?", re.ASCII)
"""Names of the daemon's own parts, which no client gets."""
_MAX_BYTES = 16 * 1024

_log = structlog.get_logger(part="keys")


@dataclass(frozen=True)
class EnrolledClient:
    """A client that is let in; ``public_key`` is Z85 text, ``added_at`` seconds since the epoch.

    A ``gateway`` may speak for every other enrolled client but the owner.
    """

    name: str
    public_key: str
    added_at: float
    gateway: bool = False


@dataclass(frozen=True)
class ServerKeys:
    """The daemon's own pair, as the Z85 bytes that ZeroMQ takes."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Leave the secret out of logs."""
        return f"ServerKeys(public={self.public!r})"


@dataclass(frozen=True)
class ClientList:
    """Names by public key (Z85 bytes), with what is wrong with damaged files, which count for no client.

    ``gateways`` are the keys of those that may speak for others.

    The files in ``unread`` could not be read for a moment, so the list is to be read again.
    """

    clients: Mapping[bytes, str]
    gateways: frozenset[bytes] = frozenset()
    damaged: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class KeyStore:
    """Keys in ``home/keys``: ``server.key`` and ``clients/<name>.json``; files of mode 0600, folders 0700. Blocking.

    Several processes may use one at the same time: files appear whole, and a name is taken once.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        """Make the folders where missing; raises ConfigError where others can enter them."""
        self._home = home
        self._clock = clock
        self._server_file = private_folder(home / "keys") / "server.key"
        self._clients = private_folder(home / "keys" / "clients")

    def server_keys(self) -> ServerKeys:
        """Read the daemon's pair, made at the first call.

        Raises ConfigError where the file is damaged or others can read it.
        """
        if not self._server_file.exists():
            new_public, new_secret = _new_pair()
            with suppress(FileExistsError):  # another process was first: its pair counts
                create_private(self._server_file, _json(version=VERSION, public_key=new_public, secret_key=new_secret))
        refuse_access_by_others(self._server_file, "600")
        values = _read_json(self._server_file)
        public, secret = values.get("public_key"), values.get("secret_key")
        if not (is_key(public) and is_key(secret)) or zmq.curve_public(secret.encode()) != public.encode():
            raise ConfigError(
                f"{self._server_file} does not hold a key pair.",
                "Restore it from a backup, or remove it: a new one is made, and all clients need new key files.",
            )
        return ServerKeys(public.encode(), secret.encode())

    def add(self, name: str, endpoint: str, *, gateway: bool = False) -> Credential:
        """Make a pair for the client ``name`` and enrol it; the secret is in the returned credential and nowhere else.

        Raises InvalidRequest for a name that cannot be used, ConfigError for one that is taken.
        """
        public, secret = _new_pair()
        server_key = self.server_keys().public.decode()
        self.enrol(name, public, gateway=gateway)
        return Credential(name, endpoint, server_key, public, secret)

    def renew(self, name: str, endpoint: str, keep: Callable[[Credential], None]) -> Credential:
        """Make a new pair for the enrolled client ``name``; from then on the old one is refused.

        The name keeps its jobs and sessions. ``keep`` stores the new credential; if it raises, the old pair stays.
        Raises InvalidRequest for a name that is not enrolled, and for the owner's.
        """
        _check_name(name)
        if name == LOCAL_USER:
            raise InvalidRequest(
                f"{name!r} is the owner of this machine, whose key the daemon makes.",
                f"Run 'qied keys remove {name}' and start the daemon again.",
                field="name",
            )
        if not self._file(name).exists():
            raise InvalidRequest(f"No client {name!r} is enrolled.", f"Enrol it: qied keys add {name}", field="name")
        gateway = any(client.gateway for client in self._readable() if client.name == name)
        public, secret = _new_pair()
        credential = Credential(name, endpoint, self.server_keys().public.decode(), public, secret)
        keep(credential)
        replace_private(self._file(name), _json(**_fields(EnrolledClient(name, public, self._clock(), gateway))))
        return credential

    def enrol(self, name: str, public_key: str, *, gateway: bool = False) -> EnrolledClient:
        """Let in the client ``name`` that keeps its secret to itself; as a ``gateway`` if it speaks for others.

        Raises InvalidRequest for a name or key that cannot be used, ConfigError for a name or key that is enrolled.
        """
        _check_name(name)
        if _ROLE.fullmatch(name):
            raise InvalidRequest(f"{name!r} is the name of a part of the daemon.", "Choose another name.", field="name")
        if not is_key(public_key):
            raise InvalidRequest(
                "This is not a public key.", "Give the 40 characters (Z85) of a CURVE public key.", field="public_key"
            )
        if public_key.encode() == self.server_keys().public:
            raise InvalidRequest("This is the daemon's own key.", "Give the client's public key.", field="public_key")
        owner = next((client.name for client in self._readable() if client.public_key == public_key), None)
        if owner is not None:
            raise ConfigError(f"This key is already enrolled, as {owner!r}.", f"Remove {owner!r} first.")
        client = EnrolledClient(name, public_key, self._clock(), gateway)
        try:
            create_private(self._file(name), _json(**_fields(client)))
        except FileExistsError as error:
            raise ConfigError(
                f"A client {name!r} is already enrolled.",
                f"Choose another name. If its key file is lost or in other hands: qied keys renew {name}",
            ) from error
        return client

    def ensure_local(self, endpoint: str) -> Credential:
        """Make sure that the machine's owner is let in, and that the key file says where the daemon is now.

        The pair stays while key file and enrolment agree; else a new one replaces it. Raises ConfigError.
        """
        server_key = self.server_keys().public.decode()
        path = self._home / LOCAL_FILE
        held = _held(path)
        enrolled = {client.name: client.public_key for client in self._readable()}
        if held is None or enrolled.get(LOCAL_USER) != held.public_key:
            self._file(LOCAL_USER).unlink(missing_ok=True)
            credential = self.add(LOCAL_USER, endpoint)
        else:
            credential = Credential(LOCAL_USER, endpoint, server_key, held.public_key, held.secret_key)
        if credential != held:
            write_credential(path, credential)
        return credential

    def list(self) -> tuple[EnrolledClient, ...]:
        """All enrolled clients by name; raises ConfigError for a file that is damaged or cannot be read."""
        try:
            return tuple(_read_client(path) for path in self._files())
        except OSError as error:
            raise _unreadable(self._clients, error) from error

    def remove(self, name: str) -> bool:
        """Stop letting the client in; returns whether it was enrolled. The local user's key file is removed as well.

        Raises InvalidRequest for an invalid name.
        """
        _check_name(name)
        file = self._file(name)
        known = file.exists()
        file.unlink(missing_ok=True)
        if name == LOCAL_USER:
            (self._home / LOCAL_FILE).unlink(missing_ok=True)
        return known

    def authorised(self, known: Mapping[bytes, str] | None = None) -> ClientList:
        """Who is let in. A client of ``known`` whose file cannot be read for a moment stays.

        Raises OSError where the folder cannot be read: that is not an empty list.
        """
        clients: dict[bytes, str] = {}
        gateways: set[bytes] = set()
        damaged, unread = [], []
        for path in self._files():
            try:
                client = _client_in(path, _load(path))
            except FileNotFoundError:  # removed since the folder was listed
                continue
            except OSError:
                unread.append(path.name)
                clients.update({key: name for key, name in (known or {}).items() if name == path.stem})
            except ConfigError as error:
                damaged.append(error.message)
            else:
                clients[client.public_key.encode()] = client.name
                if client.gateway:
                    gateways.add(client.public_key.encode())
        return ClientList(clients, frozenset(gateways), tuple(damaged), tuple(unread))

    def version(self) -> KeyStamp:
        """A stamp that is cheap to take and differs after each ``enrol`` and ``remove`` of any process."""
        return tuple(_stamps(self._files()))

    def _readable(self) -> Iterator[EnrolledClient]:
        try:
            files = self._files()
        except OSError as error:
            raise _unreadable(self._clients, error) from error
        for path in files:
            try:
                yield _read_client(path)
            except ConfigError as error:
                _log.warning("client_left_out", file=str(path), problem=error.message)

    def _files(self) -> tuple[Path, ...]:
        """Files of clients by name; raises OSError. Not by glob, which takes a folder that cannot be read for empty."""
        with os.scandir(self._clients) as entries:
            return tuple(sorted(Path(entry) for entry in entries if _FILE.fullmatch(entry.name)))

    def _file(self, name: str) -> Path:
        return self._clients / f"{name}.json"


def write_credential(path: Path, credential: Credential) -> None:
    """Write a client's key file with mode 0600, in place of one that may be there."""
    replace_private(path, _json(version=VERSION, **asdict(credential)))


def _read_client(path: Path) -> EnrolledClient:
    return _client_in(path, _read_json(path))


def _client_in(path: Path, values: dict[str, object]) -> EnrolledClient:
    name, public_key, added_at = values.get("name"), values.get("public_key"), values.get("added_at")
    gateway = values.get("gateway", False)
    if not (
        name == path.stem
        and _is_name(name)
        and is_key(public_key)
        and isinstance(added_at, int | float)
        and isinstance(gateway, bool)
    ):
        raise ConfigError(
            f"{path} does not enrol the client {path.stem!r}.", f"Remove the file, then enrol {path.stem!r} again."
        )
    return EnrolledClient(name, public_key, added_at, gateway)


def _fields(client: EnrolledClient) -> dict[str, object]:
    """What is written of a client; what it is not is left out, so that older versions read it as well."""
    return {name: value for name, value in asdict(client).items() if name != "gateway" or value}


def _read_json(path: Path) -> dict[str, object]:
    try:
        return _load(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _load(path: Path) -> dict[str, object]:
    """The fields of a file, none where it is damaged; raises OSError."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
    except (ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else {}


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be read: {error.strerror}.", "Give the daemon's user permission to read it.")


def _stamps(files: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    for path in files:
        with suppress(FileNotFoundError):  # removed since the folder was listed
            status = path.stat()
            yield path.name, status.st_ino, status.st_mtime_ns


def _held(path: Path) -> Credential | None:
    try:
        return read_credential(path)
    except CredentialsMissing:
        return None


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise InvalidRequest(
            f"{name[:80]!r} cannot be a client's name.",
            "Use 1 to 32 of a-z, 0-9, '.', '_' and '-', the first a letter or digit.",
            field="name",
        )


def _new_pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _json(**values: object) -> bytes:
    return json.dumps(values, indent=1).encode()
