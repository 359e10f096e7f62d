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
from qied.server.access.keys import KeyStore, write_credential
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


def invoke(home, *arguments):
    """Run ``qied keys`` in this process; gives its status and all that it prints."""
    return CliRunner().invoke(keys_command, [*arguments, "--home", str(home)])


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


def test_a_renewed_key_keeps_jobs_and_sessions_and_ends_the_old_one_at_once(daemon, keys, add, picture, tmp_path):
    key = add("dora")
    old = read_credential(key)
    with daemon.client(old) as client, daemon.raw(key) as silent:
        silent.hello()
        job = client.submit(picture, "x", steps=2)
        session = client.session(picture)
        keys("renew", "dora", "--out", str(key), "--endpoint", old.endpoint)
        assert silent.receive() == m.Bye("this key is no longer enrolled")
        with pytest.raises(HandshakeRefused):
            daemon.client(old)
    new = read_credential(key)
    assert (new.user, new.endpoint, new.server_key) == ("dora", old.endpoint, old.server_key)
    assert new.public_key != old.public_key and new.secret_key != old.secret_key
    assert key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "dora" in path.name] == ["dora.key.json"]
    with daemon.client(key) as client:
        assert client.job(job.id).result().bytes
        assert client.take_up_session(session.name).edit("x", steps=2).bytes


def test_a_renewal_writes_over_nothing_but_that_clients_own_key(daemon, add, tmp_path):
    other, mine = add("emil"), add("frida")
    held = other.read_bytes()
    (tmp_path / "notes.txt").write_text("precious")
    for path in (other, tmp_path / "notes.txt"):
        done = invoke(daemon.home, "renew", "frida", "--out", str(path))
        assert done.exit_code == 2
        assert "--force" in done.output and "not a key file of 'frida'" in " ".join(done.output.split())
    assert (other.read_bytes(), (tmp_path / "notes.txt").read_text()) == (held, "precious")
    assert read_credential(mine).public_key in {client.public_key for client in KeyStore(daemon.home).list()}
    assert invoke(daemon.home, "renew", "frida", "--out", str(tmp_path / "notes.txt"), "--force").exit_code == 0
    assert read_credential(tmp_path / "notes.txt").user == "frida"


def test_a_renewal_that_cannot_write_its_file_leaves_the_old_key_valid(daemon, add, tmp_path):
    key = add("gerd")
    done = invoke(daemon.home, "renew", "gerd", "--out", str(tmp_path / "no folder" / "gerd.key.json"))
    assert done.exit_code == 2
    with daemon.client(key) as client:
        assert client.welcome.user == "gerd"


@pytest.mark.parametrize(("name", "remedy"), [("nemo", "qied keys add nemo"), ("local", "qied keys remove local")])
def test_only_an_enrolled_colleague_gets_a_new_key(daemon, tmp_path, name, remedy):
    done = invoke(daemon.home, "renew", name, "--out", str(tmp_path / "key.json"))
    assert done.exit_code == 2 and remedy in done.output
    assert not (tmp_path / "key.json").exists()


def test_a_name_or_file_that_is_there_already_is_told_with_the_command_that_helps(daemon, add, tmp_path):
    key = add("hans")
    for out in (key, tmp_path / "another.key.json"):
        done = invoke(daemon.home, "add", "hans", "--out", str(out))
        assert done.exit_code == 2 and "qied keys renew hans" in done.output
    done = invoke(daemon.home, "add", "ida", "--out", str(key))
    assert done.exit_code == 2 and "no client 'ida' is enrolled" in done.output and "--out" in done.output


def test_a_key_for_others_warns_while_only_this_machine_reaches_the_daemon(daemon, tmp_path):
    port = read_credential(daemon.key).endpoint.rpartition(":")[2]
    done = invoke(daemon.home, "add", "jane", "--out", str(tmp_path / "jane.key.json"))
    assert "no other machine can reach it" in done.output
    assert f"qied serve --listen tcp://0.0.0.0:{port}" in done.output
    through_a_tunnel = ("--endpoint", "tcp://127.0.0.1:7447")
    done = invoke(daemon.home, "add", "karl", "--out", str(tmp_path / "karl.key.json"), *through_a_tunnel)
    assert done.exit_code == 0 and "no other machine" not in done.output


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(("listens", "warned"), [("0.0.0.0", False), ("127.0.0.1", True)])
def test_the_running_daemon_counts_and_else_the_configuration(tmp_path, monkeypatch, running, listens, warned):
    monkeypatch.chdir(tmp_path)
    with socket.create_server((listens, 0)) as server:
        port = server.getsockname()[1]
        write_credential(
            tmp_path / "home/local.key.json", KeyStore(tmp_path / "home").add("x", f"tcp://127.0.0.1:{port}")
        )
        if not running:
            server.close()
        configured = ("127.0.0.1" if listens == "0.0.0.0" else "0.0.0.0") if running else listens
        (tmp_path / "qied.toml").write_text(f"[daemon]\nlisten = 'tcp://{configured}:{port}'\n")
        done = invoke(tmp_path / "home", "add", "ann")
    assert done.exit_code == 0
    assert ("no other machine can reach it" in done.output) is warned


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
