import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq
from qied_client.credentials import read_credential
from qied_client.errors import ConfigError, InvalidRequest

from qied.server.access.keys import KeyStore, write_credential

ENDPOINT = "tcp://127.0.0.1:7431"
on_posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")


def public_key() -> str:
    return zmq.curve_keypair()[0].decode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> KeyStore:
    return KeyStore(home, clock=lambda: 77.0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestServerKeys:
    def test_are_made_once_and_stay(self, store: KeyStore, home: Path) -> None:
        keys = store.server_keys()
        assert zmq.curve_public(keys.secret) == keys.public
        assert KeyStore(home).server_keys() == keys
        assert keys.secret.decode() not in repr(keys)

    def test_are_one_pair_however_many_ask_first(self, store: KeyStore) -> None:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: store.server_keys(), range(16)))
        assert len({keys.public for keys in found}) == 1

    @on_posix
    def test_are_kept_to_their_owner(self, store: KeyStore, home: Path) -> None:
        store.ensure_local(ENDPOINT)
        modes = {path.relative_to(home).as_posix(): mode(path) for path in home.rglob("*")}
        assert modes == {
            "keys": 0o700,
            "keys/clients": 0o700,
            "keys/server.key": 0o600,
            "keys/clients/local.json": 0o600,
            "local.key.json": 0o600,
        }
        assert mode(home) == 0o700

    @on_posix
    @pytest.mark.parametrize(
        ("place", "rights", "remedy"), [("keys/server.key", 0o644, "chmod 600"), ("keys", 0o750, "chmod 700")]
    )
    def test_that_others_can_read_are_refused_with_the_command_that_helps(
        self, store: KeyStore, home: Path, place: str, rights: int, remedy: str
    ) -> None:
        store.server_keys()
        (home / place).chmod(rights)
        with pytest.raises(ConfigError) as refused:
            KeyStore(home).server_keys()
        assert refused.value.remedy == f"Run: {remedy} {home / place}"

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"public_key": 1, "secret_key": 2}'])
    def test_that_are_damaged_are_refused_and_not_replaced(self, store: KeyStore, home: Path, content: bytes) -> None:
        store.server_keys()
        file = home / "keys" / "server.key"
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="key pair"):
            store.server_keys()
        assert file.read_bytes() == content

    def test_that_do_not_belong_together_are_refused(self, store: KeyStore, home: Path) -> None:
        keys = store.server_keys()
        file = home / "keys" / "server.key"
        file.write_text(file.read_text().replace(keys.public.decode(), public_key()))
        with pytest.raises(ConfigError, match="key pair"):
            store.server_keys()


class TestEnrolment:
    def test_with_a_new_pair_gives_a_credential_that_is_let_in(self, store: KeyStore, tmp_path: Path) -> None:
        credential = store.add("ann", ENDPOINT)
        assert zmq.curve_public(credential.secret_key.encode()) == credential.public_key.encode()
        assert (credential.user, credential.endpoint) == ("ann", ENDPOINT)
        assert credential.server_key.encode() == store.server_keys().public
        assert store.authorised().clients == {credential.public_key.encode(): "ann"}
        write_credential(tmp_path / "ann.key.json", credential)
        assert read_credential(tmp_path / "ann.key.json") == credential

    def test_keeps_no_secret_of_the_client(self, store: KeyStore, home: Path) -> None:
        secret = store.add("ann", ENDPOINT).secret_key.encode()
        assert not [path for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()]

    def test_with_the_clients_own_key_is_listed(self, store: KeyStore, home: Path) -> None:
        bob, ann = store.enrol("bob", public_key()), store.enrol("ann", public_key())
        assert KeyStore(home).list() == (ann, bob)
        assert ann.added_at == 77.0

    @pytest.mark.parametrize("name", ["", "Ann", ".ann", "-a", "a/b", "..", "a" * 33, "ä", "a\n"])
    def test_under_what_is_no_name_is_refused(self, store: KeyStore, home: Path, name: str) -> None:
        for attempt in (lambda: store.add(name, ENDPOINT), lambda: store.remove(name)):
            with pytest.raises(InvalidRequest) as refused:
                attempt()
            assert refused.value.details["field"] == "name"
        assert store.list() == ()

    @pytest.mark.parametrize("name", ["daemon", "worker", "worker-0", "worker-x"])
    def test_under_the_name_of_a_part_of_the_daemon_is_refused(self, store: KeyStore, name: str) -> None:
        with pytest.raises(InvalidRequest, match="part of the daemon"):
            store.add(name, ENDPOINT)
        store.add("coworker", ENDPOINT)

    @pytest.mark.parametrize("key", ["", "short", "#" * 40, "é" * 40])
    def test_of_what_is_no_key_is_refused(self, store: KeyStore, key: str) -> None:
        with pytest.raises(InvalidRequest):
            store.enrol("ann", key)

    def test_of_a_taken_name_or_key_is_refused(self, store: KeyStore) -> None:
        ann = store.enrol("ann", public_key())
        with pytest.raises(ConfigError, match="'ann' is already enrolled"):
            store.enrol("ann", public_key())
        with pytest.raises(ConfigError, match="as 'ann'"):
            store.enrol("bob", ann.public_key)
        with pytest.raises(InvalidRequest, match="daemon's own"):
            store.enrol("bob", store.server_keys().public.decode())
        assert store.list() == (ann,)

    def test_ends_with_removal(self, store: KeyStore) -> None:
        store.add("ann", ENDPOINT)
        assert (store.remove("ann"), store.remove("ann")) == (True, False)
        assert store.authorised().clients == {}
        store.add("ann", ENDPOINT)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b'{"name": "bob"}',
            b'{"name": "eve", "public_key": "%s", "added_at": 1}' % public_key().encode(),
            b'{"name": "bob", "public_key": "no", "added_at": 1}',
        ],
        ids=["empty", "a list", "without a key", "another name", "no key"],
    )
    def test_by_a_damaged_file_lets_nobody_in_and_hurts_nobody_else(
        self, store: KeyStore, home: Path, content: bytes
    ) -> None:
        ann = store.add("ann", ENDPOINT)
        (home / "keys" / "clients" / "bob.json").write_bytes(content)
        assert store.authorised().clients == {ann.public_key.encode(): "ann"}
        with pytest.raises(ConfigError, match=r"bob\.json"):
            store.list()

    def test_is_noticed_from_another_process(self, store: KeyStore, home: Path) -> None:
        stamps = [store.version()]
        for call in ("add('ann', 'tcp://x')", "remove('ann')", "add('ann', 'tcp://x')"):
            imports = "from pathlib import Path; from qied.server.access.keys import KeyStore"
            code = f"{imports}; KeyStore(Path({str(home)!r})).{call}"
            subprocess.run([sys.executable, "-c", code], check=True)
            assert store.version() == store.version()
            stamps.append(store.version())
        assert stamps[0] == stamps[2]
        assert len(set(stamps)) == 3


class TestLocalUser:
    def test_gets_a_key_file_that_lets_in(self, store: KeyStore, home: Path) -> None:
        credential = store.ensure_local(ENDPOINT)
        assert read_credential(home / "local.key.json") == credential
        assert store.authorised().clients == {credential.public_key.encode(): "local"}

    def test_keeps_the_pair_and_learns_the_new_address(self, store: KeyStore, home: Path) -> None:
        first = store.ensure_local(ENDPOINT)
        second = store.ensure_local("tcp://127.0.0.1:9")
        assert (second.secret_key, second.endpoint) == (first.secret_key, "tcp://127.0.0.1:9")
        assert read_credential(home / "local.key.json") == second

    def test_gets_a_new_pair_where_the_key_file_is_lost(self, store: KeyStore, home: Path) -> None:
        first = store.ensure_local(ENDPOINT)
        (home / "local.key.json").unlink()
        second = store.ensure_local(ENDPOINT)
        assert store.authorised().clients == {second.public_key.encode(): "local"}
        assert second.public_key != first.public_key

    @on_posix
    def test_gets_a_new_pair_where_others_could_read_the_old_one(self, store: KeyStore, home: Path) -> None:
        first = store.ensure_local(ENDPOINT)
        (home / "local.key.json").chmod(0o644)
        assert store.ensure_local(ENDPOINT).public_key != first.public_key
        assert mode(home / "local.key.json") == 0o600

    def test_that_was_removed_does_not_come_back_with_the_old_pair(self, store: KeyStore, home: Path) -> None:
        first = store.ensure_local(ENDPOINT)
        assert store.remove("local")
        assert not (home / "local.key.json").exists()
        assert store.ensure_local(ENDPOINT).public_key != first.public_key
