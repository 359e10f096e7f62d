"""A gateway speaks for enrolled users: it has their jobs and limits, and none of the owner's rights."""

from __future__ import annotations

import pytest
from qied_client.credentials import read_credential
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.request import EditRequest

from qied.server.access.keys import KeyStore, write_credential
from tests.daemon.conftest import DaemonProcess, RawClient


@pytest.fixture
def gateway(shared_daemon: DaemonProcess, request: pytest.FixtureRequest):
    """Opens connections of a gateway that is enrolled for one test."""
    name = f"gw-{abs(hash(request.node.name)) % 10**8}"
    key = shared_daemon.home / f"{name}.key.json"
    store = KeyStore(shared_daemon.home)
    write_credential(key, store.add(name, read_credential(shared_daemon.key).endpoint, gateway=True))
    opened: list[RawClient] = []

    def connect() -> RawClient:
        opened.append(shared_daemon.raw(key))
        return opened[-1]

    yield connect
    store.remove(name)
    for client in opened:
        client.__exit__()


def greet(client: RawClient, user: str | None) -> m.Message:
    return client.ask(lambda n: m.Hello(n, limits.MIN_VERSION, limits.VERSION, "gateway", user))


def test_its_edits_are_those_of_the_user_for_whom_it_speaks(shared_daemon, gateway, picture):
    key = shared_daemon.enrol("lin")
    web = gateway()
    assert greet(web, "lin").user == "lin"
    blob = web.upload(picture)
    request = EditRequest((blob,), "brighter", 1)
    accepted = web.ask(lambda n: m.Submit(n, "from-the-web", request, request.payload_hash()))
    assert isinstance(accepted, m.Accepted)
    with shared_daemon.client(key) as lin:
        assert lin.job("from-the-web").result().width > 0
    other = gateway()
    greet(other, None)
    refused = other.ask(lambda n: m.Resume(n, "from-the-web"))
    assert refused.code == "unknown_job"


@pytest.mark.parametrize("user", ["local", "nobody"])
def test_it_speaks_neither_for_the_owner_nor_for_somebody_who_is_not_enrolled(gateway, user):
    client = gateway()
    refused = greet(client, user)
    assert refused.code == "not_permitted" and user in refused.message
    assert greet(client, None).user.startswith("gw-")


def test_a_usual_client_speaks_for_nobody_else(shared_daemon):
    shared_daemon.enrol("lou")
    with shared_daemon.raw(shared_daemon.enrol("mallory")) as client:
        assert greet(client, "lou").code == "not_permitted"
        assert greet(client, "mallory").user == "mallory"


def test_the_owner_may_speak_for_everybody(shared_daemon):
    shared_daemon.enrol("kim")
    with shared_daemon.raw() as client:
        assert greet(client, "kim").user == "kim"
        refused = client.ask(lambda n: m.Control(n, "pause"))
        assert refused.code == "not_permitted"


def test_one_connection_speaks_for_one_user(shared_daemon, gateway):
    shared_daemon.enrol("ada")
    shared_daemon.enrol("bob")
    client = gateway()
    assert greet(client, "ada").user == "ada"
    assert greet(client, "bob").code == "not_permitted"


def test_it_ends_with_the_user_for_whom_it_speaks(shared_daemon, gateway):
    shared_daemon.enrol("eve")
    client = gateway()
    greet(client, "eve")
    KeyStore(shared_daemon.home).remove("eve")
    assert "may not speak for 'eve'" in client.news(m.Bye).reason
