"""``qied probe`` prints a document for programs, and 80 columns for people."""

from __future__ import annotations

import io
import pwd

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from qied.cli.probe import probe, show_snapshot
from qied.hardware.snapshot import (
    Driver,
    Gpu,
    GpuProcess,
    Host,
    Pcie,
    Problem,
    SelfTest,
    Snapshot,
    System,
    Torch,
    Trial,
    read_snapshot,
)

GIB = 1024**3


@pytest.fixture
def workstation():
    trial = Trial(ok=True, tflops=97.0, relative_error=0.0029)
    selftest = SelfTest(
        bf16=trial,
        fp8_rowwise=Trial(ok=False, error="the process died with SIGSEGV"),
        fp8_tensorwise=Trial(
            ok=False, tflops=80.0, error="slower than BF16: 1.21 times its time (2 ms against 1.65 ms)"
        ),
        attention={"flash_128": trial},
        host_to_device_bytes_per_s=25_000_000_000,
    )
    card = Gpu(
        index=1,
        uuid="GPU-49375ffb-ea5f-369d-5212-f34be947e633",
        name="NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        memory_total_bytes=24 * GIB,
        memory_free_bytes=22 * GIB,
        display_active=True,
        pcie=Pcie(generation=1, width=16, generation_max=4),
        processes=(GpuProcess(pid=4242, name="[Xorg]", used_bytes=GIB // 2), GpuProcess(pid=7)),
        selftest=selftest,
    )
    return Snapshot(
        os=System(system="Linux", release="6.8.0", python="3.11.7"),
        host=Host(
            memory_total_bytes=64 * GIB, memory_limit_bytes=32 * GIB, memlock_limit_bytes=8 * 1024**2, cpu_count=8
        ),
        driver=Driver(version="560.35.03", cuda="12.6"),
        torch=Torch(version="2.13.0+cu126", cuda="12.6", arch_list=("sm_80", "sm_90"), cudnn="9.10.2"),
        packages={"diffusers": "0.42.1", "triton": None},
        gpus=(card,),
        problems=(Problem(code="cuda_failed", message="CUDA does not work: CUDA_ERROR_UNKNOWN."),),
    )


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    app = typer.Typer()
    app.command()(probe)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def text_of(snapshot):
    console = Console(file=io.StringIO(), width=80, highlight=False)
    show_snapshot(console, snapshot)
    return console.file.getvalue()


def test_json_is_the_document_alone(run):
    done = run("--json")
    assert done.exit_code == 0
    assert read_snapshot(done.stdout).os.python
    assert done.stderr == ""


def test_the_self_test_can_be_left_out(run):
    assert run("--no-selftest", "--json").exit_code == 0


def test_without_options_it_is_for_people(run):
    done = run()
    assert done.exit_code == 0
    assert done.stdout.startswith("system")


def test_a_user_without_home_is_told_to_set_it(run, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    done = run("--no-selftest")
    assert done.exit_code == 2
    assert "Set HOME" in done.stderr


def test_a_workstation_reads_well_in_80_columns(workstation):
    text = text_of(workstation)
    assert max(map(len, text.splitlines())) <= 80
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert "memory unknown free of 64.0 GiB, limited to 32.0 GiB, 8 MiB may be locked" in " ".join(text.split())
    assert "driver 560.35.03, CUDA up to 12.6" in lines
    assert "torch 2.13.0+cu126, CUDA 12.6, cuDNN 9.10.2, sm_80 sm_90" in lines
    assert "packages diffusers 0.42.1" in lines
    assert "card 1 NVIDIA GeForce RTX 4090, compute capability 8.9" in lines
    assert "link PCIe 1 x16 now, PCIe 4 x? at most" in lines
    assert "program [Xorg], 0.5 GiB" in lines
    assert "program 7, unknown" in lines
    assert "bf16 ok 97.0 TFLOP/s, error 0.0029" in lines
    assert "fp8 rowwise no the process died with SIGSEGV" in lines
    assert "fp8 storage not run" in lines
    assert "attn flash 128 ok 97.0 TFLOP/s, error 0.0029" in lines
    assert "host to card 25.0 GB/s" in lines
    assert "problem CUDA does not work: CUDA_ERROR_UNKNOWN." in lines
    assert "slower than BF16: 1.21 times its time" in " ".join(text.split())


def test_a_machine_without_a_card_says_so(workstation):
    bare = workstation.model_copy(update={"gpus": (), "driver": None, "torch": None, "problems": ()})
    lines = {" ".join(line.split()) for line in text_of(bare).splitlines()}
    assert {"driver none", "torch not installed", "cards none"} <= lines
