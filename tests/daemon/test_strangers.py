"""People without a key can open TCP connections, and nothing else: what they hold is free again when they go."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from qied_client.credentials import read_credential


def test_strangers_who_use_up_the_open_files_deafen_the_daemon_no_longer_than_they_stay(daemon, picture):
    address = urlsplit(read_credential(daemon.key).endpoint)
    open_files = Path(f"/proc/{daemon.pid}/fd")
    with daemon.client() as client, ExitStack() as strangers:
        limit = len(list(open_files.iterdir())) + 60
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))
        for _ in range(100):
            strangers.enter_context(socket.create_connection((address.hostname, address.port)))
        while len(list(open_files.iterdir())) < limit:
            pass
        while "cannot read the enrolled keys" not in {line["event"] for line in daemon.log}:
            client.status()
    with daemon.client() as client:
        assert client.edit(picture, "after", steps=2).bytes
    assert daemon.stop() == 0
