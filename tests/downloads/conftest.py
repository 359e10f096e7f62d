"""A hub that runs while a test does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub.utils import close_session

from tests.downloads.hub_server import Hub, serving


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        yield running
    close_session()
