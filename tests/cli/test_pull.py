"""``qied pull`` as people run it: what it lists, says and leaves behind, against a hub on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qied.cli.main import command_line
from qied.planning.profiles.model_profile import shipped_downloads
from tests.downloads.hub_server import COMMIT, LIGHTNING, LORA, MODEL, SHARD, Hub, Pause, hash_of, serving

# Where the parent ignores Ctrl-C, as a shell's background jobs do, a child would, too.
RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from qied.cli.main import main; main()"
FIRST = SHARD.format(1)

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        yield running


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Start:
    """Start ``qied pull`` with a home and a cache of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "HF_", "XDG_"))}
    environ = kept | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.endpoint}

    def started(*arguments: str | Path, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, "pull", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environ, "COLUMNS": "80", **more},
            cwd=tmp_path,
        )

    return started


@pytest.fixture
def run(start: Start) -> Run:
    """Run ``qied pull`` to its end."""

    def done(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **more)
        out, told = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, told)

    return done


def snapshot(tmp_path: Path, repository: str) -> Path:
    return tmp_path / "hf" / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT


# Without a hub


def test_without_a_name_it_lists_what_can_be_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = CliRunner().invoke(command_line(), ["pull"]).stdout
    assert max(map(len, listed.splitlines())) <= 80
    for name, download in shipped_downloads().items():
        assert f"{name}  " in listed
        assert download.description in listed
        assert download.repository in listed and download.licence in listed


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    done = CliRunner().invoke(command_line(), ["pull", "qwen"])
    assert done.exit_code == 2
    assert "invalid_request There is no 'qwen' to pull." in done.stderr
    assert all(name in done.stderr for name in shipped_downloads())


# With one


def test_the_model_is_fetched_with_a_plain_line_for_each_file_and_then_served_by_name(
    run: Run, hub: Hub, tmp_path: Path
) -> None:
    done = run("qwen-image-edit-2511")
    assert done.returncode == 0, done.stderr
    folder = snapshot(tmp_path, MODEL)
    assert done.stdout.splitlines() == [f"In {folder}", "Serve it: qied serve"]
    first, licence, *lines = done.stderr.splitlines()
    assert first.startswith(f"{MODEL} at {COMMIT[:12]}: ") and first.endswith(" still to download")
    assert licence.startswith("Licence: Apache-2.0, ") and licence.endswith(f"/{MODEL}"), "told before the download"
    assert lines.pop(lines.index("processor/merges.txt  0 bytes")), "which has no bytes to ask for"
    assert [line.split()[0] for line in lines] == [path for path, _ in hub.fetched()], "no line but one for each file"
    assert f"{FIRST}  {len(hub.repositories[MODEL].files[FIRST]) // 1000} kB" in lines
    again = run("qwen-image-edit-2511")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert again.stderr.endswith(", all of it there\n")
    assert again.stderr.count("\n") == 1


def test_a_part_in_a_folder_says_what_is_still_missing_and_how_to_get_it(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    done = run("qwen-image-edit-2511", "--to", folder, "--only", "vae", "--only", "model_index")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [".cache", "model_index.json", "vae"]
    assert "Still missing: " in done.stdout
    assert f"qied pull qwen-image-edit-2511 --to '{folder}'" in done.stdout


def test_a_lora_says_which_folder_the_daemon_must_be_given_and_how_it_is_used(run: Run, tmp_path: Path) -> None:
    done = run("lightning-8steps")
    assert done.returncode == 0, done.stderr
    folder = snapshot(tmp_path, LIGHTNING)
    assert [path.name for path in folder.iterdir()] == [LORA.format(8)]
    assert f'loras = ["{folder}"]' in done.stdout
    assert f"--lora {LORA.format(8).removesuffix('.safetensors')} --steps 8 --cfg 1" in done.stdout


def test_ctrl_c_keeps_what_was_fetched_and_the_same_command_goes_on(
    run: Run, start: Start, hub: Hub, tmp_path: Path
) -> None:
    content = hub.repositories[MODEL].files[FIRST]
    blobs = snapshot(tmp_path, MODEL).parent.parent / "blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{hash_of(content, FIRST)}.qied-partial"
    partial.write_bytes(content[:60_000])
    pause = hub.pauses[FIRST] = Pause(40_000)
    process = start("qwen-image-edit-2511", "--only", "transformer")
    assert pause.reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command resumes" in told
    assert "Traceback" not in told
    there = partial.stat().st_size
    assert 60_000 <= there <= 100_000
    assert run("qwen-image-edit-2511", "--only", "transformer").returncode == 0
    assert [asked for path, asked in hub.fetched() if path == FIRST] == ["bytes=60000-", f"bytes={there}-"]
    assert (snapshot(tmp_path, MODEL) / FIRST).read_bytes() == content


def test_the_reserve_of_the_configuration_stays_free(run: Run, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "qied.toml").write_text(f"[storage]\nfree_reserve_bytes = {1 << 60}\n")
    done = run("qwen-image-edit-2511")
    assert done.returncode == 1
    assert "error disk_full" in done.stderr
    assert not (tmp_path / "hf").exists()
    assert hub.fetched() == []


def test_a_pull_imports_no_torch(tmp_path: Path, hub: Hub) -> None:
    script = (
        "import sys; from qied.cli.main import command_line as line\n"
        "line()(['pull', 'lightning-4steps'], standalone_mode=False)\n"
        "print(*sorted({'torch', 'diffusers', 'transformers', 'safetensors'} & set(sys.modules)), 'imported')"
    )
    environ = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environ, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported"
