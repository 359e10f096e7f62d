"""``qied show`` and the daemon: what a result says of itself, and that its command makes it again."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys

import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata
from qied_client.transfers import hash_of

from qied.cli.main import command_line
from qied.pictures.mask import told


@pytest.fixture
def qied(shared_daemon, tmp_path, monkeypatch):
    """Run a command of ``qied`` in this process, in a folder of its own."""
    monkeypatch.setenv("QIED_KEY", str(shared_daemon.key))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["qied"])
        with pytest.raises(SystemExit) as left:
            command_line()([str(argument) for argument in arguments], prog_name="qied")
        assert not left.value.code

    return run


def test_the_command_that_show_prints_makes_an_equal_picture(
    qied, shared_daemon, tmp_path, picture, make_picture, capfd
):
    (tmp_path / "in.png").write_bytes(picture)
    (tmp_path / "mask.png").write_bytes(make_picture(64, 48, (255, 255, 0)))
    prompt = 'it\'s "blue" for $5'
    qied("edit", "in.png", prompt, "--mask", "mask.png", "--width", 512, "--height", 2048, "--fit", "-o", "out.webp")
    capfd.readouterr()
    qied("show", "out.webp")
    shown = capfd.readouterr().out
    command = next(line for line in shown.splitlines() if line.startswith("qied edit"))
    ran = subprocess.run(
        ["bash", "-c", command.replace("qied", f"{shlex.quote(sys.executable)} -m qied", 1)],
        env={**os.environ, "QIED_KEY": str(shared_daemon.key)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    made, again = (read_metadata(tmp_path / name) for name in ("out.webp", "out-again.webp"))
    assert made is not None and again is not None
    assert made.sources == (hash_of(picture),)
    assert made.mask == hash_of((tmp_path / "mask.png").read_bytes())
    assert (made.prompt, made.preset, made.precision, made.width) == (prompt, "final", "fp32", 256)
    assert told("colours")[0] in made.warnings and "512 x 2048 pixels were asked for" in made.warnings[0]
    assert [*made.warnings[1:]] == [*again.warnings], "the second time it asks for the size that it gets"
    first, second = (Image.open(io.BytesIO((tmp_path / name).read_bytes())) for name in ("out.webp", "out-again.webp"))
    assert first.tobytes() == second.tobytes()


def test_equal_requests_give_equal_files(shared_daemon, picture):
    with shared_daemon.client() as client:
        one, two = (client.edit(picture, "go", seed=5, steps=2).bytes for _ in range(2))
    assert one == two
