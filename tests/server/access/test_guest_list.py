"""Who is let in stays let in while the disk or the descriptors do not let the list be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qied.server.access import keys
from qied.server.access.guest_list import GuestList
from qied.server.access.keys import KeyStore

WITHOUT_DESCRIPTORS = """
import resource, sys
from pathlib import Path
from qied.server.access.guest_list import GuestList
from qied.server.access.keys import KeyStore

store = KeyStore(Path(sys.argv[1]))
ann = store.add("ann", "tcp://x").public_key.encode()
guests = GuestList(store)
assert guests.lookup("client", ann) == "ann"
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
store.add("bob", "tcp://x")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
assert guests.lookup("client", ann) == "ann"
try:
    store.version()
except OSError:
    pass
else:
    raise AssertionError("a folder that cannot be read was taken for empty")
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
assert {guests.lookup("client", client.public_key.encode()) for client in store.list()} == {"ann", "bob"}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_without_free_descriptors_the_list_stays_as_it_is(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS, str(tmp_path / "home")], check=True)


def test_a_client_whose_file_cannot_be_read_for_a_moment_stays_and_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeyStore(tmp_path / "home")
    ann, guests = store.add("ann", "tcp://x").public_key.encode(), GuestList(store)
    assert guests.lookup("client", ann) == "ann"
    bob = store.add("bob", "tcp://x").public_key.encode()
    file, load = tmp_path / "home" / "keys" / "clients" / "ann.json", keys._load

    def fail(path: Path) -> dict[str, object]:
        if path == file:
            raise OSError(5, os.strerror(5))
        return load(path)

    with monkeypatch.context() as failing:
        failing.setattr(keys, "_load", fail)
        assert (guests.lookup("client", ann), guests.lookup("client", bob)) == ("ann", "bob")
        file.write_text(file.read_text().replace(ann.decode(), bob.decode()))
        assert guests.lookup("client", ann) == "ann"
    assert guests.lookup("client", ann) is None
