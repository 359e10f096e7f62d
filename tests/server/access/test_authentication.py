"""The proof that strangers are refused ends, also where it cannot be made."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
import zmq
from qied_client.errors import CredentialsMissing, SocketUnavailable

from qied.server.access.authentication import prove_strangers_are_refused

NOWHERE = "tcp://127.0.0.1:1"


async def test_without_a_socket_the_proof_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr("zmq.asyncio.Socket.connect", fail)
    async with asyncio.timeout(60):
        with pytest.raises(SocketUnavailable, match="Too many open files"):
            await prove_strangers_are_refused(NOWHERE, zmq.curve_keypair()[0])


async def test_with_a_server_key_that_is_none_it_ends_too() -> None:
    async with asyncio.timeout(60):
        with pytest.raises(CredentialsMissing):
            await prove_strangers_are_refused(NOWHERE, b"no key")
