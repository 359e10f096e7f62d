"""Opening a journal: new, old, of a newer version, of somebody else, or damaged."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from qied_client.errors import (
    ConfigError,
    SetupError,
)

from qied.server.journal.journal import Journal
from qied.server.journal.schema import MIGRATIONS, open_database
from tests.server.journal.journal_rows import (
    accept,
    write_and_close,
)


class TestOpening:
    async def test_keeps_the_files_to_their_owner(self, journal: Journal, path: Path) -> None:
        await journal.apply(accept())
        files = list(path.parent.iterdir())
        assert {file.suffix for file in files} >= {".sqlite3", ".sqlite3-wal", ".lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async def test_is_refused_to_a_second_daemon_by_the_first_ones_process_id(
        self, journal: Journal, path: Path
    ) -> None:
        code = (
            "from pathlib import Path\nfrom qied.server.journal.journal import Journal\n"
            f"Journal.open(Path({str(path)!r}))"
        )
        start = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
        second = await asyncio.to_thread(start)
        assert second.returncode == 1
        assert f"ConfigError: Another daemon (process {os.getpid()})" in second.stderr
        await journal.close()
        third = await asyncio.to_thread(start)
        assert third.returncode == 0, third.stderr

    async def test_refuses_a_journal_of_a_newer_version_and_names_it(self, journal: Journal, path: Path) -> None:
        await journal.close()
        with closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA user_version = 77")
        with pytest.raises(ConfigError, match="version 77"):
            Journal.open(path)

    async def test_migrates_an_older_journal_and_keeps_what_is_in_it(self, journal: Journal, path: Path) -> None:
        await journal.apply(accept())
        await journal.close()
        more = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",))
        with closing(open_database(path, more)) as migrated:
            assert migrated.execute("SELECT job, note FROM jobs").fetchall() == [("one", "none")]
            assert migrated.execute("PRAGMA user_version").fetchone() == (len(more),)

    async def test_takes_no_half_of_a_migration(self, journal: Journal, path: Path) -> None:
        await journal.close()
        broken = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT", "SELECT nonsense"))
        with pytest.raises(sqlite3.OperationalError):
            open_database(path, broken)
        with closing(open_database(path)) as same:
            assert "note" not in [row[1] for row in same.execute("PRAGMA table_info(jobs)")]

    @pytest.mark.parametrize("damaged_from", [0, 8192])
    def test_refuses_a_damaged_file_and_leaves_it_as_it_is(self, path: Path, damaged_from: int) -> None:
        asyncio.run(write_and_close(path, [accept(str(number), number) for number in range(1, 200)]))
        whole = path.read_bytes()
        broken = whole[:damaged_from] + bytes([0xA5]) * 8192 + whole[damaged_from + 8192 :]
        path.write_bytes(broken)
        with pytest.raises(SetupError, match=r"damaged.* move it aside") as refused:
            Journal.open(path)
        assert not isinstance(refused.value, ConfigError)
        assert path.read_bytes() == broken
        path.write_bytes(whole)
        asyncio.run(write_and_close(path, []))

    def test_leaves_another_programs_database_alone(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE theirs (x)")
        before = path.read_bytes()
        with pytest.raises(SetupError, match="another program"):
            Journal.open(path)
        assert path.read_bytes() == before

    def test_says_where_it_may_not_write(self, path: Path) -> None:
        path.mkdir(parents=True)
        with pytest.raises(SetupError, match="cannot be opened"):
            Journal.open(path)
