"""A journal in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qied.server.journal.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(path)
    yield journal
    await journal.close()
