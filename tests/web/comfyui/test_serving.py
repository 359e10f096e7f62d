"""The gateway for ComfyUI's clients that a daemon opens by itself, and where it is not opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from qied_client.cli.main import command_line
from qied_client.web.server import Listening
from qied_client.web.tokens import TokenStore
from typer.testing import CliRunner

from tests.daemon.conftest import DaemonProcess
from tests.web.test_web_gateway import free_port


def test_a_daemon_opens_it_with_its_own_tokens(daemon_process: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    daemon = daemon_process(tmp_path / "home")
    url = f"http://127.0.0.1:{free_port()}"
    daemon.arguments = ["--comfyui", url.removeprefix("http://")]
    daemon.start()
    try:
        daemon.wait_for("web gateway", address=url)
        token = TokenStore(daemon.home / "tokens.json").add("local")[0]
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get("/system_stats").status_code == 401
            answer = client.get("/system_stats", headers={"Authorization": f"Bearer {token}"})
            assert answer.json()["system"]["model"] == "builtin"
            assert client.get("/v1/models").status_code == 404
    finally:
        daemon.stop()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["0.0.0.0:0", "--comfyui", "--without-token", "local"], "everybody would be let in as local"),
        (["127.0.0.1:0", "--without-token", "local"], "--without-token: the page and OpenAI's API need tokens"),
    ],
)
def test_no_one_is_let_in_without_a_token_from_elsewhere_or_to_the_page(
    shared_daemon: DaemonProcess, tmp_path: Path, words: list[str], said: str
) -> None:
    command = ["web", *words, "--key", str(shared_daemon.key), "--tokens", str(tmp_path / "tokens.json")]
    done = CliRunner().invoke(command_line(), command)
    assert done.exit_code == 2 and said in " ".join(done.output.split())


def test_addresses_of_this_machine_alone_are_told_apart() -> None:
    for text, alone in (("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False)):
        assert Listening.at(text).is_loopback is alone
    assert not Listening.at("example.org:1").is_loopback and not Listening.at(":1").is_loopback
