"""What is said of one forward: times, what costs what, streaming, errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from forward_bench.groups import GAPS, GROUPS, OTHER, grouped
from forward_bench.limits import limits
from forward_bench.setting import GB, MIDDLE, NATIVE, SIZES, SMALLEST, SWEPT_AT
from forward_bench.show import MODELS
from forward_bench.streaming import TARGETS
from part_runs.bar import figure, ratio
from quality_bench.tables import NOTHING, Table, number, share

from performance_bench.reports import Results

LIMIT = "limit of the card, FP8"
_RATES = (("gemm_tflops", "fp8", "FP8 products"), ("gemm_tflops", "bf16", "BF16 products"))
_COPIES = {
    "pinned": "host to card, pinned",
    "pageable": "host to card, pageable",
    "pageable_in_pieces": "host to card, pageable through pinned pieces",
    "on_the_device": "on the card",
}


def speed(found: Results) -> Table:
    """Milliseconds of every model at every size, with how much faster than diffusers eager they are."""
    names = tuple(map(str, SIZES))
    cells = []
    if least := limits(found.figures("ceilings")):
        cells.append(
            (LIMIT + found.elsewhere("ceilings", "fp8"), *(number(least[name], ".0f") for name in names), *"---")
        )
    for part, title in MODELS.items():
        figures = found.figures(part)
        if figures:
            times = (_time(found, part, name) for name in names)
            cells.append((title + found.elsewhere(part, "fp8"), *times, *_memory_and_first(figures)))
    columns = ("ms a forward", *names, "weights, GB", "beyond them, GB", "first call, s")
    return Table(
        "Times",
        columns,
        tuple(cells),
        "In brackets: how many times as fast as diffusers in BF16 without compiling, "
        "on the same kind of card. Memory beyond the weights and the first call are at 1024/1024.",
    )


def _time(found: Results, part: str, size: str) -> str:
    mine, eager = (figure(found.figures(name), "sizes", size, "ms") for name in (part, "diffusers"))
    same = not found.elsewhere(part, "diffusers")
    faster = ratio(eager, mine) if same and part != "diffusers" else None
    return number(mine, ".1f") + ("" if faster is None else f" ({faster:.2f}x)")


def _memory_and_first(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    weights = figure(figures, "quantised", "allocated_bytes") or figure(figures, "weights", "bytes")
    beyond = figure(figures, "sizes", NATIVE, "peak_reserved_bytes")
    first = figure(figures, "sizes", NATIVE, "first_ms", 0)
    return _gigabytes(weights), _gigabytes(beyond), number(None if first is None else first / 1000, ".2f")


def attention(found: Results) -> Table:
    """diffusers in BF16 with each of its attention backends that can be had."""
    rates = figure(found.figures("diffusers"), "attention") or {}
    cells = [
        (f"`{name}`", number(figure(rates, name, "ms"), ".1f"), "" if "ms" in rates[name] else _short(rates[name]))
        for name in rates
    ]
    columns = ("attention backend", f"{NATIVE}, ms", "")
    return Table("diffusers' attention backends, BF16, eager", columns, tuple(cells))


def _short(failed: Mapping[str, Any]) -> str:
    """Why a backend did not run, in a few words."""
    said = str(failed["error"])
    package = re.search(r"install `([^`]+)`|`pip install ([^`]+)`", said)
    return said[:80] if package is None else f"needs {package[1] or package[2]}"


def ceilings(found: Results) -> Table:
    """What the card itself reaches: the lowest and the highest rate of each kind."""
    figures = found.figures("ceilings")
    cells = [(title, *_range(figure(figures, kind, name), "TFLOP/s")) for kind, name, title in _RATES]
    for backend, rates in (figure(figures, "attention_tflops") or {}).items():
        cells.append((f"attention, {backend}", *_range(rates, "TFLOP/s")))
    for name, title in _COPIES.items():
        rate = figure(figures, "copy_bytes_per_s", name)
        cells.append((title, *(() if rate is None else (f"{rate / GB:.1f} GB/s", f"{rate / GB:.1f} GB/s"))))
    return Table("The card", ("what", "lowest", "highest"), tuple(cell for cell in cells if len(cell) == 3))


def _range(rates: Any, unit: str) -> tuple[str, ...]:
    numbers = sorted(_numbers(rates))
    return (f"{numbers[0]:.0f} {unit}", f"{numbers[-1]:.0f} {unit}") if numbers else ()


def _numbers(rates: Any) -> Iterator[float]:
    if isinstance(rates, Mapping):
        for each in rates.values():
            yield from _numbers(each)
    elif isinstance(rates, int | float):
        yield float(rates)


def costs(found: Results) -> Table:
    """Milliseconds of each group of kernels."""
    columns = {}
    for precision, title in (("fp8-attention", "FP8"), ("fp8", "FP8, attention in 16 bits"), ("bf16", "BF16")):
        for size in (SMALLEST, NATIVE):
            columns[f"{title}, {size}"] = figure(found.figures("breakdown"), precision, size)
    columns[f"diffusers BF16, {NATIVE}"] = figure(found.figures("breakdown-eager"), NATIVE)
    there = {title: summary for title, summary in columns.items() if summary is not None}
    times = {title: grouped(summary) for title, summary in there.items()}
    rows = [(group, *(number(times[title][group], ".1f") for title in there)) for group in _groups()]
    rows.append(("from the first kernel to the last", *(number(each["span_ms"], ".1f") for each in there.values())))
    rows.append(("kernels", *(str(each["launches"]) for each in there.values())))
    return Table("What costs what, ms", ("kernels", *there), tuple(rows) if there else ())


def _groups() -> list[str]:
    return [*(name for name, _ in GROUPS), OTHER, GAPS]


def streaming(found: Results) -> Table:
    """Speed of consecutive forwards against the weights on the card."""
    note = (
        "Milliseconds for each forward, and the share of the resident speed. *Four*: milliseconds for four forwards of "
        "different edits together, in one sweep if blocks stream, one after the other if all stay."
    )
    return _streaming(found, "streaming", "Fewer weights on the card, FP8, attention in 16 bits", note)


def streaming_with_fp8_attention(found: Results) -> Table:
    """The same with attention in FP8."""
    return _streaming(found, "streaming-fp8-attention", "Fewer weights on the card, FP8", "")


def _streaming(found: Results, part: str, title: str, note: str) -> Table:
    cells = []
    for row in streamed_rows(found, part):
        several = (_against(found, part, row, "several_ms", size) for size in (MIDDLE, NATIVE))
        alone = (_against(found, part, row, "ms", size) for size in (MIDDLE, NATIVE))
        cells.append((_gigabytes(row["weights_bytes"]), str(row["resident"]), *alone, *several))
    columns = ("weights on the card, GB", "blocks that stay", MIDDLE, NATIVE, f"four, {MIDDLE}", f"four, {NATIVE}")
    return Table(title, columns, tuple(cells), note)


def offloaded(found: Results) -> Table:
    """diffusers' own way to run with few weights on the card, beside the project's."""
    cells = []
    for name, title in (("bf16", "diffusers BF16"), ("fp8 storage", "diffusers, weights stored in FP8")):
        row = figure(found.figures("group-offload"), name)
        if row is not None:
            peak = figure(row, "peak_reserved_bytes", NATIVE)
            cells.append(
                (title, _gigabytes(peak), *(number(figure(row, "ms", size), ".1f") for size in (MIDDLE, NATIVE)))
            )
    few, none = f"{SWEPT_AT:g} GB", f"{TARGETS[-1]:g} GB"
    for part, name, title in (
        ("streaming-fp8-attention", few, "qied FP8"),
        ("streaming", few, "qied FP8, attention in 16 bits"),
        ("streaming", none, "the same with all blocks streamed"),
    ):
        if cells and (row := figure(found.figures(part), name)) is not None:
            times = (number(figure(row, "ms", size), ".1f") for size in (MIDDLE, NATIVE))
            cells.append((title, f"{_gigabytes(row['weights_bytes'])} of weights", *times))
    columns = ("consecutive forwards", f"on the card at {NATIVE}, GB", f"{MIDDLE}, ms", f"{NATIVE}, ms")
    note = (
        "diffusers: `enable_group_offload(use_stream=True, record_stream=True)`, a block at a time from pinned memory."
    )
    return Table("Beside diffusers' group offloading", columns, tuple(cells), note)


def streamed_rows(found: Results, part: str = "streaming") -> list[Mapping[str, Any]]:
    """The rows of a part about streaming that went well, the most weights first."""
    figures = found.figures(part)
    rows = [row for name in figures if (row := figure(figures, name)) is not None]
    return sorted(rows, key=lambda row: -int(row["weights_bytes"]))


def _against(found: Results, part: str, row: Mapping[str, Any], kind: str, size: str) -> str:
    mine = figure(row, kind, size)
    resident = figure(found.figures(part), "resident", kind, size)
    quick = ratio(resident, mine)
    return NOTHING if mine is None else f"{mine:.1f}" + ("" if quick is None else f" ({quick:.0%})")


def errors(found: Results) -> Table:
    """Relative errors of whole forwards and of one block."""
    figures = found.figures("numerics")
    cells = []
    for name, title in (
        ("diffusers bf16", "diffusers BF16"),
        ("bf16", "qied BF16"),
        ("fp8", "qied FP8, attention in 16 bits"),
        ("fp8-attention", "qied FP8"),
    ):
        whole = (figure(figures, name, size, "to_fp32") for size in (SMALLEST, NATIVE))
        block = (figure(figures, "one block", name, key) for key in ("output_same_weights", "update_same_weights"))
        cells.append((title, *(share(each) for each in whole), *(share(each) for each in block)))
    columns = (
        "error to FP32",
        f"velocity, {SMALLEST}",
        f"velocity, {NATIVE}",
        "one block, stream",
        "one block, update",
    )
    return Table("Errors", columns, tuple(cells) if figures else (), _bits(figures))


def differences(found: Results) -> Table:
    """How far BF16 is from diffusers in BF16, and that from itself with another attention kernel."""
    figures = found.figures("numerics")
    cells = []
    for title, kind in (("plain random", figures.get("plain weights", {})), ("with which blocks matter", figures)):
        for size in (SMALLEST, NATIVE):
            itself = figure(kind, "diffusers bf16", size, "to_itself_by_another_attention")
            ours = figure(kind, "bf16", size, "to_diffusers_bf16")
            if ours is not None:
                cells.append((f"{title}, {size}", f"{ours:.2%}", NOTHING if itself is None else f"{itself:.2%}"))
    columns = ("weights", "qied BF16 to diffusers BF16", "diffusers BF16 to itself, by another attention kernel")
    return Table("Differences in BF16", columns, tuple(cells))


def _bits(figures: Mapping[str, Any]) -> str:
    said = []
    for precision, title in (("fp8-attention", "FP8"), ("fp8", "FP8, attention in 16 bits"), ("bf16", "BF16")):
        if bits := figure(figures, "same bits", precision):
            differ = [name.replace("_", " ") for name, same in bits.items() if not same]
            ways = ", ".join(name.replace("_", " ") for name in bits)
            said.append(f"{title}: {'other bits: ' + ', '.join(differ) if differ else 'the same bits ' + ways}.")
    return " ".join(said)


def _gigabytes(nbytes: int | None) -> str:
    return number(None if nbytes is None else nbytes / GB, ".2f")
