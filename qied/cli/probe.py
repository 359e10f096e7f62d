"""``qied probe``: what this machine is, as a snapshot document or as a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from qied_client.cli.failures import failures_as_text
from qied_client.text import gib, rate_text
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qied.cli.progress import MeasuringProgress
from qied.hardware.probe import probe as look
from qied.hardware.selftest import measured
from qied.hardware.snapshot import Gpu, Host, Pcie, SelfTest, Snapshot, Torch, Trial, capability_text


def probe(
    as_json: Annotated[bool, typer.Option("--json", help="Print the snapshot document, schema 1.")] = False,
    selftest: Annotated[
        bool,
        typer.Option("--selftest/--no-selftest", help="Run small kernels on each card, unless results are cached."),
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run them even if results are cached.")] = False,
) -> None:
    """Show driver, torch, memory and cards, and the results of small kernels on them."""
    with failures_as_text(), MeasuringProgress() as progress:
        snapshot = measured(look(os.environ), on_progress=progress, only_cached=not selftest, fresh=fresh and selftest)
    if as_json:
        sys.stdout.write(snapshot.to_json() + "\n")
    else:
        show_snapshot(Console(highlight=False), snapshot)


def show_snapshot(console: Console, snapshot: Snapshot) -> None:
    """Print a snapshot for people."""
    table = _table()
    for name, value in _machine(snapshot):
        table.add_row(name, Text(value))
    console.print(table)
    for gpu in snapshot.gpus:
        console.print()
        console.print(_card(gpu))
    for problem in snapshot.problems:
        console.print()
        console.print(Text.assemble(("problem ", "bold yellow"), problem.message))


def _machine(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    yield "system", f"{snapshot.os.system} {snapshot.os.release}, Python {snapshot.os.python}"
    yield "memory", _memory(snapshot.host)
    yield "processors", "unknown" if snapshot.host.cpu_count is None else str(snapshot.host.cpu_count)
    driver = snapshot.driver
    yield "driver", "none" if driver is None else f"{driver.version}, CUDA up to {driver.cuda or 'unknown'}"
    yield "torch", "not installed" if snapshot.torch is None else _torch(snapshot.torch)
    yield "packages", ", ".join(f"{name} {version}" for name, version in snapshot.packages.items() if version)
    if not snapshot.gpus:
        yield "cards", "none"


def _memory(host: Host) -> str:
    text = f"{_gib(host.memory_available_bytes)} free of {_gib(host.memory_total_bytes)}"
    if host.memory_limit_bytes is not None:
        text += f", limited to {_gib(host.memory_limit_bytes)}"
    if host.memlock_limit_bytes is not None:
        text += f", {host.memlock_limit_bytes // 1024**2} MiB may be locked"
    return text


def _torch(torch: Torch) -> str:
    parts = [torch.version, f"CUDA {torch.cuda}" if torch.cuda else "built for the CPU"]
    if torch.cudnn:
        parts.append(f"cuDNN {torch.cudnn}")
    return ", ".join([*parts, " ".join(torch.arch_list)] if torch.arch_list else parts)


def _card(gpu: Gpu) -> Table:
    table = _table()
    capability = gpu.compute_capability
    suffix = f", compute capability {capability_text(capability)}" if capability else ""
    table.add_row(f"card {gpu.index}", Text.assemble((gpu.name, "bold"), suffix))
    if gpu.uuid:
        table.add_row("uuid", gpu.uuid)
    table.add_row("memory", f"{_gib(gpu.memory_free_bytes)} free of {_gib(gpu.memory_total_bytes)}")
    if gpu.pcie is not None:
        table.add_row("link", _link(gpu.pcie))
    if gpu.display_active:
        table.add_row("display", "in use")
    for process in gpu.processes:
        table.add_row("program", Text(f"{process.name or process.pid}, {_gib(process.used_bytes)}"))
    if gpu.selftest is None:
        table.add_row("self-test", "not run")
    else:
        for name, answer in _trials(gpu.selftest):
            table.add_row(name, answer)
    return table


def _link(link: Pcie) -> str:
    def form(generation: int | None, width: int | None) -> str:
        return f"PCIe {generation or '?'} x{width or '?'}"

    return f"{form(link.generation, link.width)} now, {form(link.generation_max, link.width_max)} at most"


def _trials(result: SelfTest) -> Iterator[tuple[str, Text]]:
    modes = {
        "bf16": result.bf16,
        "fp8 rowwise": result.fp8_rowwise,
        "fp8 tensorwise": result.fp8_tensorwise,
        "fp8 storage": result.fp8_storage,
        "int8": result.int8,
    }
    attention = {f"attn {name.replace('_', ' ')}": trial for name, trial in result.attention.items()}
    for name, trial in {**modes, **attention}.items():
        yield name, Text("not run") if trial is None else _trial(trial)
    rate = result.host_to_device_bytes_per_s
    yield "host to card", Text(result.host_to_device_error or "not run" if rate is None else rate_text(rate))


def _trial(trial: Trial) -> Text:
    if not trial.ok:
        return Text.assemble(("no ", "yellow"), trial.error or "")
    error = "" if trial.relative_error is None else f", error {trial.relative_error:.4f}"
    return Text.assemble(("ok ", "green"), "" if trial.tflops is None else f"{trial.tflops:.1f} TFLOP/s{error}")


def _table() -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="dim", min_width=18)
    table.add_column(overflow="fold")
    return table


def _gib(size: int | None) -> str:
    return "unknown" if size is None else gib(size)
