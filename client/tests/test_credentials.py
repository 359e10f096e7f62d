import json
import os
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from qied_client.credentials import Credential, default_home, find_credential, is_key, login_file, read_credential
from qied_client.errors import CredentialsMissing
from zmq.utils import z85

SERVER, PUBLIC, SECRET = (zmq.curve_keypair()[0].decode() for _ in range(3))
CONTENT = {
    "version": 1,
    "user": "ann",
    "endpoint": "tcp://127.0.0.1:7431",
    "server_key": SERVER,
    "public_key": PUBLIC,
    "secret_key": SECRET,
}
CREDENTIAL = Credential("ann", "tcp://127.0.0.1:7431", SERVER, PUBLIC, SECRET)


def write(path: Path, content: object = CONTENT, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)
    return path


def test_a_key_file_gives_the_credential_and_its_secret_stays_out_of_logs(tmp_path: Path) -> None:
    credential = read_credential(write(tmp_path / "key.json"))
    assert credential == CREDENTIAL
    assert SECRET not in repr(credential)


def test_a_missing_key_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CredentialsMissing, match="no key file") as missing:
        read_credential(tmp_path / "key.json")
    assert "qied serve" in missing.value.remedy
    assert "qied keys add" in missing.value.remedy


def test_a_folder_in_place_of_a_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsMissing, match="cannot be read"):
        read_credential(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_file_open_to_others_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "my key.json", mode=mode)
    with pytest.raises(CredentialsMissing, match="other users") as unsafe:
        read_credential(path)
    assert unsafe.value.remedy == f"Run: chmod 600 '{path}'"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b" " * 20_000, "more than"),
        ([], "version 1"),
        ({**CONTENT, "version": 2}, "version 1"),
        ({**CONTENT, "user": 5}, "valid user"),
        ({**CONTENT, "endpoint": ""}, "valid endpoint"),
        ({**CONTENT, "endpoint": "tcp://::1:7431"}, r"endpoint: 'tcp://::1:7431' is not an address; use tcp://"),
        ({**CONTENT, "server_key": SERVER[:-1]}, "valid server_key"),
        ({**CONTENT, "secret_key": "#" * 40}, "valid secret_key"),
        ({key: value for key, value in CONTENT.items() if key != "public_key"}, "valid public_key"),
    ],
)
def test_a_malformed_key_file_is_refused_by_what_is_wrong(tmp_path: Path, content: object, complaint: str) -> None:
    with pytest.raises(CredentialsMissing, match=complaint) as malformed:
        read_credential(write(tmp_path / "key.json", content))
    assert SECRET not in str(malformed.value)


@given(st.binary(min_size=32, max_size=32))
def test_every_encoded_key_is_a_key(key: bytes) -> None:
    text = z85.encode(key).decode()
    assert is_key(text)
    assert not is_key(text[:-1] + "~")
    assert not is_key(text + text[:5])


class TestFinding:
    def test_takes_the_file_named_in_the_call_first(self, tmp_path: Path) -> None:
        mine = write(tmp_path / "mine.json", {**CONTENT, "user": "mine"})
        other = write(tmp_path / "other.json")
        assert find_credential({"QIED_KEY": str(other)}, mine).user == "mine"

    def test_takes_the_environments_file_before_the_local_daemons(self, tmp_path: Path) -> None:
        named = write(tmp_path / "named.json", {**CONTENT, "user": "named"})
        write(tmp_path / "local.key.json")
        assert find_credential({"QIED_KEY": str(named), "QIED_HOME": str(tmp_path)}).user == "named"

    def test_takes_the_local_daemons_file_last(self, tmp_path: Path) -> None:
        write(tmp_path / "local.key.json")
        environ = {"QIED_HOME": str(tmp_path), "QIED_KEY": "", "XDG_CONFIG_HOME": str(tmp_path)}
        assert find_credential(environ) == CREDENTIAL

    def test_takes_the_login_before_the_local_daemons_file(self, tmp_path: Path) -> None:
        write(tmp_path / "qied" / "key.json", {**CONTENT, "user": "stored"})
        write(tmp_path / "home" / "local.key.json")
        named = write(tmp_path / "named.json", {**CONTENT, "user": "named"})
        environ = {"QIED_HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path)}
        assert find_credential(environ).user == "stored"
        assert find_credential({**environ, "QIED_KEY": str(named)}).user == "named"

    def test_does_not_pass_over_a_login_that_cannot_be_used(self, tmp_path: Path) -> None:
        write(tmp_path / "qied" / "key.json", b"damaged")
        write(tmp_path / "local.key.json")
        with pytest.raises(CredentialsMissing, match="not JSON"):
            find_credential({"QIED_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})

    def test_says_where_there_is_no_key_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialsMissing, match="and no login") as absent:
            find_credential({"QIED_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
        assert absent.value.details == {"absent": True}
        assert "qied serve" in absent.value.remedy and "qied-client login FILE" in absent.value.remedy

    def test_does_not_fall_back_from_a_named_file_that_is_missing(self, tmp_path: Path) -> None:
        write(tmp_path / "local.key.json")
        with pytest.raises(CredentialsMissing, match="typo"):
            find_credential({"QIED_HOME": str(tmp_path), "QIED_KEY": str(tmp_path / "typo.json")})


@pytest.mark.parametrize(
    ("environ", "platform", "home"),
    [
        ({"QIED_HOME": "/srv/qied", "XDG_STATE_HOME": "/x"}, "linux", "/srv/qied"),
        ({"QIED_HOME": "", "XDG_STATE_HOME": "/x", "HOME": "/home/ann"}, "linux", "/x/qied"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/ann"}, "linux", "/home/ann/.local/state/qied"),
        ({"HOME": "/home/ann"}, "linux", "/home/ann/.local/state/qied"),
        ({"HOME": "/Users/ann"}, "darwin", "/Users/ann/Library/Application Support/qied"),
        ({"LOCALAPPDATA": "/C/ann/Local", "HOME": "/no"}, "win32", "/C/ann/Local/qied"),
        ({"USERPROFILE": "/C/ann"}, "win32", "/C/ann/AppData/Local/qied"),
    ],
)
def test_the_home_folder_is_where_the_system_keeps_state(environ: dict[str, str], platform: str, home: str) -> None:
    assert default_home(environ, platform) == Path(home)


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/home/ann"}, "linux", "/x"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/home/ann"}, "linux", "/home/ann/.config"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/home/ann"}, "linux", "/home/ann/.config"),
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/Users/ann"}, "darwin", "/Users/ann/Library/Application Support"),
        ({"APPDATA": "/C/ann/Roaming", "USERPROFILE": "/no"}, "win32", "/C/ann/Roaming"),
        ({"USERPROFILE": "/C/ann"}, "win32", "/C/ann/AppData/Roaming"),
    ],
)
def test_a_login_is_kept_where_the_system_keeps_configuration(
    environ: dict[str, str], platform: str, folder: str
) -> None:
    assert login_file(environ, platform) == Path(folder) / "qied" / "key.json"
