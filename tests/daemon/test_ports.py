"""Who gets in where: clients at their port and not at that of the workers, strangers nowhere; each start proves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import zmq
import zmq.asyncio
from qied_client.credentials import Credential, read_credential
from qied_client.errors import UnsafeAuthentication

from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.config import Config
from qied.hardware.snapshot import read_snapshot
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.wishes import Wishes
from qied.resources import builtin_model_folder
from qied.server.access.authentication import prove_a_key_is_refused
from qied.server.access.guest_list import GuestList
from qied.server.access.keys import KeyStore
from qied.server.daemon import Daemon, Launch
from qied.serving.model import ServedModel
from qied.serving.plan import plan_service

Lookup = Callable[[GuestList, str, bytes], str | None]
SNAPSHOTS = Path(__file__).parent.parent / "planning" / "golden" / "snapshots"
ASKED: Lookup = GuestList.lookup


def worker_port(daemon) -> str:
    """The other port at which the front listens."""
    clients = read_credential(daemon.key).endpoint
    listening = {
        f"tcp://127.0.0.1:{connection.laddr.port}"
        for connection in psutil.Process(daemon.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    (workers,) = listening - {clients}
    return workers


def stranger_of(local: Credential) -> tuple[bytes, bytes]:
    return zmq.curve_keypair()


def client_of(local: Credential) -> tuple[bytes, bytes]:
    return local.public_key.encode(), local.secret_key.encode()


@pytest.mark.parametrize("pair_of", [stranger_of, client_of])
async def test_a_key_that_no_worker_was_given_is_refused_where_workers_connect(shared_daemon, pair_of):
    local = read_credential(shared_daemon.key)
    await prove_a_key_is_refused(worker_port(shared_daemon), local.server_key.encode(), pair_of(local), "A key", 10.0)


async def test_each_start_proves_it_before_a_worker_is_started(shared_daemon):
    events = [line["event"] for line in shared_daemon.log]
    proof = "checked that unknown keys are refused, and clients' keys at the workers' port"
    assert events.index(proof) < events.index("worker started")
    assert "refused a key that is not enrolled" not in events[: events.index("ready")]


def lets_strangers_to_clients(guests: GuestList, domain: str, key: bytes) -> str | None:
    return ASKED(guests, domain, key) or ("anybody" if domain == "client" else None)


def lets_strangers_to_workers(guests: GuestList, domain: str, key: bytes) -> str | None:
    return ASKED(guests, domain, key) or ("anybody" if domain == "worker" else None)


def lets_clients_to_workers(guests: GuestList, domain: str, key: bytes) -> str | None:
    return ASKED(guests, domain, key) or ASKED(guests, "client", key)


@asynccontextmanager
async def daemon_without_workers(tmp_path: Path):
    """A daemon in this process."""
    config = Config.model_validate({"daemon": {"listen": "tcp://127.0.0.1:*"}})
    machine = read_snapshot((SNAPSHOTS / "rtx-4090-and-3060.json").read_bytes())
    profile = shipped_profiles()["builtin"]
    model = ServedModel(tmp_path, profile, "builtin", assembled=pipeline_checkpoint(builtin_model_folder()))
    serving = plan_service(machine, model, config, Wishes(), shipped_hardware_profiles()).serving
    daemon = Daemon(Launch(tmp_path / "home", config, serving, (), lambda order: order))
    try:
        yield daemon
    finally:
        await daemon.stop()


@pytest.mark.parametrize(
    ("lookup", "whose"),
    [
        (lets_strangers_to_clients, "A key that is not enrolled"),
        (lets_strangers_to_workers, "A key that is not enrolled"),
        (lets_clients_to_workers, "The key of a client"),
    ],
)
async def test_a_daemon_that_lets_in_whom_it_should_not_does_not_start(tmp_path, monkeypatch, lookup, whose):
    monkeypatch.setattr(GuestList, "lookup", lookup)
    async with daemon_without_workers(tmp_path) as daemon:
        with pytest.raises(UnsafeAuthentication, match=whose) as refused:
            await asyncio.wait_for(daemon.start(lambda *_: None), 20)
        assert (daemon.address in refused.value.message) == (lookup is lets_strangers_to_clients)


async def test_the_guest_list_tells_clients_from_workers(tmp_path: Path):
    guests, client, worker = GuestList(KeyStore(tmp_path)), *(zmq.curve_keypair()[0] for _ in range(2))
    KeyStore(tmp_path).enrol("ann", client.decode())
    guests.workers = {worker: "worker-0"}.get
    pairs = [(domain, key) for domain in ("client", "worker", "") for key in (client, worker)]
    found = {pair: guests.lookup(*pair) for pair in pairs}
    assert {pair: name for pair, name in found.items() if name} == {
        ("client", client): "ann",
        ("worker", worker): "worker-0",
    }
