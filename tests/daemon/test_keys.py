"""Who is let in: enrolled by ``qied keys``, out again within a second, and strangers never."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import zmq
import zmq.asyncio
from qied_client import AsyncClient
from qied_client.credentials import read_credential
from qied_client.errors import HandshakeRefused, SetupError, UnsafeAuthentication
from qied_client.protocol import messages as m
from typer.testing import CliRunner

from qied.cli.keys import keys as keys_command
from qied.server.access.authentication import Authenticator, prove_a_key_is_refused, prove_strangers_are_refused
from qied.server.access.keys import KeyStore
from qied.server.access.private_files import create_private, private_folder


@pytest.fixture
def daemon(shared_daemon):
    return shared_daemon


@pytest.fixture
def keys(daemon, tmp_path):
    """Run ``qied keys`` on the daemon's state; returns what it printed."""

    def run(*arguments):
        command = [sys.executable, "-m", "qied", "keys", *arguments, "--home", str(daemon.home)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    return run


@pytest.fixture
def add(keys, daemon, tmp_path):
    """Enrol a client by the command; returns its key file."""

    def run(name):
        path = tmp_path / f"{name}.key.json"
        keys("add", name, "--out", str(path), "--endpoint", read_credential(daemon.key).endpoint)
        return path

    return run


def test_an_added_client_is_listed_and_can_edit_at_once(daemon, keys, add, picture):
    key = add("ann")
    assert key.stat().st_mode & 0o777 == 0o600
    assert [client["name"] for client in json.loads(keys("list", "--json"))] == ["ann", "local"]
    with daemon.client(key) as client:
        assert client.welcome.user == "ann"
        assert client.edit(picture, "x", steps=2).bytes


def test_a_public_key_is_enough_to_enrol_somebody(daemon, keys):
    public, secret = zmq.curve_keypair()
    printed = keys("add", "own-secret", "--public-key", public.decode())
    local = read_credential(daemon.key)
    assert local.server_key in printed
    own = replace(local, user="own-secret", public_key=public.decode(), secret_key=secret.decode())
    with daemon.client(own) as client:
        assert client.welcome.user == "own-secret"


def test_a_printed_key_is_whole_although_it_looks_like_markup(tmp_path):
    public = secret = b""
    while not re.search(rb"\[[a-z][^\[\]]*\]", public):
        public, secret = zmq.curve_keypair()
    home = tmp_path / "home"
    private_folder(home)
    pair = {"version": 1, "public_key": public.decode(), "secret_key": secret.decode()}
    create_private(private_folder(home / "keys") / "server.key", json.dumps(pair).encode())
    add = ["add", "ann", "--public-key", zmq.curve_keypair()[0].decode(), "--home", str(home)]
    assert public.decode() in CliRunner().invoke(keys_command, add).output


def test_an_address_that_no_client_could_use_is_not_put_into_a_key_file(daemon, tmp_path):
    for endpoint in ("workstation", "tcp://workstation", "tcp://*:7447", "tcp://fd00::5:7447"):
        out = tmp_path / "eve.key.json"
        done = CliRunner().invoke(
            keys_command, ["add", "eve", "--home", str(daemon.home), "--out", str(out), "--endpoint", endpoint]
        )
        assert (done.exit_code, out.exists()) == (2, False)
        assert "--endpoint: " in done.output
    assert "eve" not in {client.name for client in KeyStore(daemon.home).list()}


def test_a_removed_client_is_told_goodbye_and_cannot_come_back(daemon, keys, add, picture, tmp_path):
    key = add("bob")
    with daemon.client(key) as client, daemon.raw(key) as silent:
        silent.hello()
        job = client.submit(picture, f"gate={tmp_path / 'gate'}", steps=2)
        keys("remove", "bob")
        assert isinstance(silent.receive(), m.Bye)
        with pytest.raises(HandshakeRefused):
            client.status()
        with pytest.raises(HandshakeRefused):
            daemon.client(key)
        (tmp_path / "gate").touch()
    with daemon.client() as local:
        while local.status().running:
            pass
    with daemon.client(add("bobs-successor")) as other:
        assert job.id not in {row.job for row in other.status().jobs}


def test_a_client_with_a_new_key_does_not_keep_connections_of_the_old_one_alive(daemon):
    with daemon.raw(daemon.enrol("carl")) as old:
        old.hello()
        assert KeyStore(daemon.home).remove("carl")
        with daemon.client(daemon.enrol("carl")) as new:
            assert old.receive() == m.Bye("this key is no longer enrolled")
            assert new.status().clients == 1


def test_a_handshake_that_is_not_refused_keeps_the_daemon_from_serving():
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as port:
        port.linger = 0
        port.curve_server = True
        port.curve_secretkey = secret
        port.bind("tcp://127.0.0.1:*")
        address = port.last_endpoint.decode()
        with pytest.raises(UnsafeAuthentication):
            asyncio.run(prove_strangers_are_refused(address, public))


async def test_a_proof_that_cannot_look_does_not_call_the_daemon_unsafe():
    """The one refuses connections, the other accepts them and is silent."""
    _, server_key = zmq.curve_keypair()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SetupError, match="could not be checked: there was no answer for 0.2 s") as unanswered:
            await prove_a_key_is_refused(address, server_key, zmq.curve_keypair(), "A key", 0.2)
    with pytest.raises(SetupError, match="could not be checked: Nothing answers at") as refused:
        await prove_a_key_is_refused(address, server_key, zmq.curve_keypair(), "A key", 60.0)
    for error in (unanswered.value, refused.value):
        assert not isinstance(error, UnsafeAuthentication)
        assert "firewall" in error.remedy


@asynccontextmanager
async def _port(lookup):
    """A port whose keys are judged by ``lookup``; gives its address and key."""
    public, secret = zmq.curve_keypair()
    context = zmq.asyncio.Context()
    authenticator = Authenticator(context, lookup)
    port = context.socket(zmq.ROUTER)
    port.linger = 0
    port.curve_server = True
    port.curve_secretkey = secret
    port.zap_domain = b"client"
    port.bind("tcp://127.0.0.1:*")
    try:
        yield port.last_endpoint.decode(), public
    finally:
        port.close()
        await authenticator.close()
        context.term()


async def test_the_proof_sees_whether_the_authenticator_lets_strangers_in():
    async with _port(lambda domain, key: None) as (address, server_key):
        await prove_strangers_are_refused(address, server_key)
    async with _port(lambda domain, key: "anybody") as (address, server_key):
        with pytest.raises(UnsafeAuthentication):
            await prove_strangers_are_refused(address, server_key)


async def test_a_lookup_that_fails_refuses_the_key_and_is_asked_again_for_the_next():
    asked = []

    def lookup(domain, key):
        asked.append(key)
        raise RuntimeError("a defect of the lookup")

    async with _port(lookup) as (address, server_key):
        await prove_strangers_are_refused(address, server_key)
        await prove_strangers_are_refused(address, server_key)
    assert len(set(asked)) == 2


async def test_a_client_that_the_daemon_has_forgotten_connects_anew_by_itself(daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    async with AsyncClient(daemon.key) as client:
        job = await client.submit(picture, f"gate={gate}", steps=2)
        client._driver.say(m.Bye("said behind the client's back"))
        gate.touch()
        assert (await job.result(timeout=20)).bytes
