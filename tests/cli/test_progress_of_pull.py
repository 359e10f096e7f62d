"""The progress of a pull: a bar in a terminal, one plain line for each file elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from qied.cli.progress import PullProgress
from qied.downloads.wanted import RemoteFile

SHARD = RemoteFile("transformer/diffusion_pytorch_model-00001-of-00005.safetensors", 9_973_000_000, "a" * 64)
CONFIG = RemoteFile("vae/config[1].json", 730, "b" * 40)


def told(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with PullProgress(console) as progress:
        for done in (0, 5_000_000_000, 9_973_000_000):
            progress(SHARD, done, 9_973_000_730)
        progress(CONFIG, 9_973_000_730, 9_973_000_730)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_terminal_shows_the_file_the_bytes_and_the_time_that_is_left() -> None:
    text = told(terminal=True)
    assert "transformer/..." in text
    assert "1-of-00005 " in text
    assert "10.0/10.0 GB" in text
    assert "0:00:00" in text


def test_elsewhere_each_file_is_one_line_with_its_size() -> None:
    assert told(terminal=False).splitlines() == [f"{SHARD.path}  9.97 GB", "vae/config[1].json  730 bytes"]
