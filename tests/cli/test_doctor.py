"""``qied doctor`` from the outside: exit status, JSON, time, and that it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qied.server.access.keys import KeyStore

GIB = 1024**3
RUN = "import typer; from qied.cli.doctor import doctor; typer.run(doctor)"


@pytest.fixture
def doctor(tmp_path):
    """Run the command with a home of its own; gives the finished process."""

    def run(*arguments, code=RUN, timeout=60, without=(), **environ):
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "HF_", "COMFYUI_", "XDG_"))
        }
        return subprocess.run(
            [sys.executable, "-c", code, "--home", str(tmp_path / "state"), *map(str, arguments)],
            capture_output=True,
            text=True,
            env={
                name: value
                for name, value in {
                    **kept,
                    "HOME": str(tmp_path),
                    "COLUMNS": "80",
                    "OMP_NUM_THREADS": "1",
                    **environ,
                }.items()
                if name not in without
            },
            cwd=tmp_path,
            check=False,
            timeout=timeout,
        )

    return run


@pytest.fixture
def recorded(tmp_path):
    """A recorded snapshot of a 12 GB card, with single values changed."""

    def write(**parts):
        document = {
            "schema": 1,
            "os": {"system": "Linux", "release": "6.8.0", "python": "3.11.7"},
            "host": {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 56 * GIB, "cpu_count": 16},
            "driver": {"version": "560.35.03", "cuda": "12.6"},
            "torch": {"version": "2.13.0+cu126", "cuda": "12.6", "arch_list": ["sm_86", "sm_90"]},
            "packages": {"diffusers": "0.42.1", "transformers": "5.23.0", "safetensors": "0.8.0"},
            "gpus": [
                {
                    "index": 0,
                    "name": "NVIDIA GeForce RTX 4070",
                    "compute_capability": [8, 9],
                    "memory_total_bytes": 12 * GIB,
                    "memory_free_bytes": 11.5 * GIB,
                    "selftest": {
                        "bf16": {"ok": True, "tflops": 60.0},
                        "fp8_rowwise": {"ok": True, "tflops": 110.0},
                    },
                }
            ],
            **parts,
        }
        path = tmp_path / "machine.json"
        path.write_text(json.dumps(document))
        return path

    return write


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, size and time of change of everything below."""
    found = sorted(folder.rglob("*"))
    return {str(path): (stat.st_mode, stat.st_size, stat.st_mtime_ns) for path in found for stat in [path.lstat()]}


def by_id(done) -> dict[str, dict[str, str]]:
    return {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_with_the_built_in_model_this_machine_is_healthy_and_nothing_has_changed(doctor, tmp_path):
    KeyStore(tmp_path / "state").ensure_local("tcp://127.0.0.1:1")
    before = tree(tmp_path / "state")
    done = doctor("--model", "builtin", "--json", QIED_DAEMON_LISTEN="tcp://127.0.0.1:*")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert tree(tmp_path / "state") == before
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["plan"]["model"] == "builtin"
    assert document["summary"]["error"] == 0
    assert by_id(done)["deep.edit"]["status"] == "skipped"


def test_it_makes_no_state_folder(doctor, tmp_path):
    doctor("--model", "builtin", "--json")
    assert not (tmp_path / "state").exists()


CARD_AND_TORCH = f"""
import pathlib, os
from qied.hardware import probe, torch_facts
from qied.hardware.nvml import Cards
from qied.hardware.snapshot import Driver, Gpu
card = Gpu(index=0, uuid="GPU-1", name="NVIDIA X", compute_capability=(8, 9), memory_total_bytes=12 * 2**30)
probe.read_cards = lambda *asked: Cards(driver=Driver(version="560.35.03", cuda="12.6"), gpus=(card,))
package = pathlib.Path(os.environ["HOME"]) / "torch"
package.mkdir()
(package / "version.py").write_text("__version__ = '2.13.0+cu126'\\ncuda = '12.6'\\n")
probe.find_torch = lambda: package
torch_facts.ask_child = lambda *asked, **more: '{{"arch_list": ["sm_86"], "cudnn": null}}'
{RUN}
"""


def test_a_card_and_its_torch_are_looked_at_without_a_trace_in_the_users_cache(doctor, tmp_path):
    done = doctor("--model", "builtin", "--json", code=CARD_AND_TORCH, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert by_id(done)["torch.kernels"]["status"] == "ok", "torch was asked"
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / ".cache").exists()


def test_a_user_without_name_and_home_is_told_to_set_home(doctor):
    nameless = f"import pwd\npwd.getpwuid = lambda number: {{}}[number]\n{RUN}"
    done = doctor("--json", code=nameless, without=("HOME",))
    assert (done.returncode, done.stdout) == (3, "")
    assert "Set HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_without_name_gets_a_bundle(doctor, recorded, tmp_path):
    nameless = f"import pwd\npwd.getpwuid = lambda number: {{}}[number]\n{RUN}"
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    done = doctor("--snapshot", recorded(), "--bundle", "b.zip", code=nameless, without=names)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.zip").exists()


def test_a_name_that_the_terminal_cannot_write_is_written_as_far_as_it_can(doctor, recorded):
    path = recorded()
    path.write_text(path.read_text().replace("GeForce", "GeForce\N{TRADE MARK SIGN}"))
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    main = "import sys; from qied.cli.main import main; sys.argv[1:1] = ['doctor']; main()"
    done = doctor("--snapshot", path, code=main, **ascii_only)
    assert done.returncode == 0, done.stderr
    assert "NVIDIA GeForce? RTX 4070" in done.stdout


def test_a_current_folder_that_may_not_be_read_is_a_finding(doctor, recorded):
    closed = (
        "import pathlib\nusual = pathlib.Path.is_file\n"
        "def is_file(path):\n    if path.name == 'qied.toml':\n        raise PermissionError(13, 'Permission denied')\n"
        f"    return usual(path)\npathlib.Path.is_file = is_file\n{RUN}"
    )
    done = doctor("--snapshot", recorded(), "--json", code=closed)
    found = by_id(done)["config.valid"]
    assert (found["status"], "--config" in found["remedy"]) == ("error", True), done.stderr


def test_a_configuration_file_that_is_missing_is_said_once(doctor, recorded):
    found = by_id(doctor("--snapshot", recorded(), "--config", "x.toml", "--json"))["config.valid"]
    assert found["message"] == "x.toml: No such file or directory."


def test_without_a_model_it_ends_with_2_and_says_how_to_get_one(doctor):
    done = doctor()
    assert done.returncode == 2
    assert "qied pull qwen-image-edit-2511" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_recorded_machine_is_looked_at_instead_of_this_one(doctor, recorded):
    done = doctor("--snapshot", recorded(), "--json")
    assert done.returncode == 0, done.stdout
    findings = by_id(done)
    assert json.loads(done.stdout)["plan"]["gpu"] == "NVIDIA GeForce RTX 4070"
    assert findings["driver.present"]["status"] == "ok"
    for check in ("model.found", "state.keys", "port.free", "clock.sane", "deep.edit"):
        assert findings[check]["status"] == "skipped"


def test_a_deep_look_at_a_recorded_machine_skips_what_it_cannot_do(doctor, recorded):
    done = doctor("--snapshot", recorded(), "--deep", "--json")
    assert {found["status"] for name, found in by_id(done).items() if name.startswith("deep.")} == {"skipped"}
    assert "another machine" in by_id(done)["deep.edit"]["message"]


def test_warnings_end_with_1_only_where_they_count(doctor, recorded):
    path = recorded(torch={"version": "2.9.1+cu128", "cuda": "12.8", "arch_list": ["sm_86"], "cudnn": "9.10.2"})
    assert doctor("--snapshot", path).returncode == 0
    strict = doctor("--snapshot", path, "--strict")
    assert strict.returncode == 1
    assert "torch.vae_memory" in strict.stdout


def test_a_refusal_is_in_the_document_and_ends_with_2(doctor, recorded):
    done = doctor("--snapshot", recorded(driver={"version": "470.82.01"}), "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["plan"]["refused"]["code"] == "driver_too_old"


def test_a_wrong_configuration_is_a_finding_and_the_machine_is_looked_at_all_the_same(doctor, recorded, tmp_path):
    (tmp_path / "qied.toml").write_text("[daemon]\nlistn = 'x'\n")
    done = doctor("--snapshot", recorded(), "--json")
    assert done.returncode == 2
    assert "qied.toml:2: daemon.listn" in by_id(done)["config.valid"]["message"]
    assert by_id(done)["driver.cuda"]["status"] == "ok"
    assert json.loads(done.stdout)["plan"] is None


@pytest.mark.parametrize("content", [None, "{", '{"schema": 2}'], ids=["missing", "no JSON", "other schema"])
def test_a_snapshot_that_cannot_be_read_is_a_failure_of_the_doctor(doctor, tmp_path, content):
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    done = doctor("--snapshot", "s.json", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert "qied probe --json" in done.stderr


def test_a_check_that_breaks_ends_with_3_and_the_others_are_shown(doctor, recorded):
    breaking = f"import zmq\nzmq.has = lambda what: 1 / 0\n{RUN}"
    done = doctor("--model", "builtin", "--json", code=breaking)
    assert done.returncode == 3
    findings = by_id(done)
    assert findings["zmq.curve"]["status"] == "error"
    assert "ZeroDivisionError" in findings["zmq.curve"]["message"]
    assert "Traceback" in done.stderr
    assert findings["python.version"]["status"] == "ok"


def test_a_glance_takes_less_than_three_seconds_of_work_and_leaves_torch_out(doctor):
    timed = (
        "import sys, time, typer\nfrom qied.cli.doctor import doctor\n"
        "try:\n    typer.run(doctor)\nfinally:\n"
        "    sys.stderr.write(f'{time.process_time()} {\"torch\" in sys.modules}')"
    )
    done = doctor("--model", "builtin", code=timed)
    seconds, with_torch = done.stderr.split()
    assert float(seconds) < 3
    assert with_torch == "False"


def test_the_bundle_is_written_and_named(doctor, recorded, tmp_path):
    done = doctor("--snapshot", recorded(), "--bundle", "report.zip")
    assert done.returncode == 0
    assert "report.zip" in done.stdout
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        assert json.loads(archive.read("plan.json"))["model"] == "qwen-image-edit-2511"
        assert str(tmp_path) not in archive.read("config.json").decode()


@pytest.mark.timeout(300)
def test_a_deep_look_does_an_edit_refuses_a_stranger_and_leaves_nothing_behind(doctor, tmp_path):
    KeyStore(tmp_path / "state").ensure_local("tcp://127.0.0.1:1")
    before = tree(tmp_path / "state")
    cache = tmp_path / "cache"
    done = doctor(
        *("--model", "builtin", "--deep", "--json", "--bundle", "b.zip"),
        timeout=240,
        TMPDIR=str(tmp_path),
        XDG_CACHE_HOME=str(cache),
    )
    findings = by_id(done)
    assert findings["deep.strangers"]["status"] == "ok", findings["deep.strangers"]
    assert findings["deep.edit"]["status"] in ("ok", "warning"), findings["deep.edit"]
    assert "were planned" in findings["deep.edit"]["message"]
    assert findings["deep.weights"]["status"] == "skipped"
    assert tree(tmp_path / "state") == before
    assert not list(tmp_path.glob("qied-*"))
    assert not cache.exists()
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert '"ready"' in archive.read("log.jsonl").decode()
