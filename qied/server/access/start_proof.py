"""The check at each start: strangers are refused at both ports, and clients at that of the workers."""

from __future__ import annotations

import zmq
from qied_client.credentials import Credential

from qied.server.access.authentication import Authenticator, KeyPair, prove_a_key_is_refused

PATIENCE_S = 10.0
"""Seconds that a refusal may take."""


async def prove_ports_are_closed(
    authenticator: Authenticator, clients: str, workers: str, enrolled: Credential
) -> None:
    """Knock at both addresses with the key of a stranger, and at that of ``workers`` also with one of a client.

    Raises UnsafeAuthentication where one of them is let in, and SetupError where nothing is heard for ``PATIENCE_S``
    or no connection can be made.
    """
    stranger = zmq.curve_keypair()
    client: KeyPair = (enrolled.public_key.encode(), enrolled.secret_key.encode())
    knocks = [
        (clients, stranger, "A key that is not enrolled"),
        (workers, stranger, "A key that is not enrolled"),
        (workers, client, "The key of a client"),
    ]
    with authenticator.expecting(stranger[0], client[0]):
        for address, pair, whose in knocks:
            await prove_a_key_is_refused(address, enrolled.server_key.encode(), pair, whose, PATIENCE_S)
