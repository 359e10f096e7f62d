"""What is said of the VAE, of whole edits within budgets, and of the preview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from part_runs.bar import figure, ratio
from quality_bench.tables import NOTHING, Table, number, share
from serve_bench.bars import PREVIEW, peak_bytes
from serve_bench.setting import EIGHT, GB, SIX
from shop_bench.setting import NIGHT
from vae_bench.setting import SIDES
from vae_bench.show import rows as vae_rows

from performance_bench.reports import Results

PHASES = {
    "encode_prompt": "prompt",
    "encode_image": "VAE encode",
    "prepare_steps": "modulation",
    "denoise": "steps",
    "decode": "VAE decode",
    "png": "PNG",
    "everything else": "everything else",
}
"""Phases of an edit as people call them."""


_NIGHT_PHASES = {
    "encode_prompt_ms": "prompt",
    "encode_image_ms": "VAE encode",
    "denoise_ms": "the model's four steps",
    "decode_ms": "VAE decode",
    "upscale_ms": "upscaling four times",
    "encode_ms": "PNG",
}


def night(found: Results) -> Table:
    """A picture of a shop's night: what each part of it takes, and all of it by the clock."""
    pictures = found.figures(NIGHT).get("pictures", {})
    phases = pictures.get("phases_ms", {})
    cells = [(words, f"{phases[name]:.0f}") for name, words in _NIGHT_PHASES.items() if name in phases]
    if "seconds_each_warm" in pictures:
        cells.append(("all of it, by the clock", f"{1000 * pictures['seconds_each_warm']:.0f}"))
    return Table("A picture, ms", ("part", "ms"), tuple(cells), "Medians, but for the last line.")


def vae_times(found: Results) -> Table:
    """Milliseconds and peaks of encoding and decoding."""
    cells = tuple((f"{name}, {how}", *row) for name, how, row in vae_rows(found.parts))
    columns = ("encode / decode", *(f"{side}, ms" for side in SIDES), *(f"{side}, GB" for side in SIDES))
    return Table("The VAE", columns, cells, "GB: the peak of tensors beyond weights and input.")


def vae_errors(found: Results) -> Table:
    """Errors to FP32, and tiles against the whole."""
    figures = found.figures("differences")
    cells = []
    for way in ("encode", "decode"):
        mine, theirs = (figure(figures, "errors", way, key) for key in ("to_fp32", "of_diffusers_bf16_to_fp32"))
        if mine is not None:
            cells.append((f"{way}, error to FP32", share(mine), share(theirs)))
    for name, each in (figure(figures, "tiles") or {}).items():
        if name.startswith("tiles"):
            cells.append(
                (f"{name} to the whole, encode / decode", f"{each['encode']:.1f} / {each['decode']:.1f} dB", "-")
            )
    return Table("Its results", ("what", "qied", "diffusers BF16"), tuple(cells))


def edits(found: Results) -> Table:
    """Whole edits within budgets, beside the same ones with everything resident."""
    cells = tuple(row for part in (EIGHT, SIX) for row in _edit_rows(found.figures(part), part))
    columns = (
        "edit",
        "attention",
        "blocks that stay",
        "s",
        "ms a step",
        "speed",
        "peak, GB",
        "predicted, GB",
        "budget, GB",
    )
    note = "*Speed* is the speed of the steps, relative to the same edit with everything resident."
    return Table("Edits in small budgets", columns, cells, note)


def _edit_rows(figures: Mapping[str, Any], part: str) -> Iterator[tuple[str, ...]]:
    for which, plan_name, title in (("budget", "plan", part), ("resident", "resident_plan", "no budget")):
        if (edit := figure(figures, which)) is None:
            continue
        plan = figures[plan_name]
        speed = ratio(figure(figures, "resident", "step_ms"), edit["step_ms"])
        sizes = (peak_bytes(edit["memory"]), plan["peak_bytes"], plan["budget_bytes"])
        yield (
            f"{edit['width']} x {edit['height']}, {edit['steps']} steps, {title}",
            "FP8" if plan["worker"]["execution"]["attention"][:1] == ["fp8"] else "16 bits",
            str(plan["worker"]["execution"]["resident_blocks"]),
            f"{edit['ms'] / 1000:.1f}",
            f"{edit['step_ms']:.1f}",
            NOTHING if speed is None else f"{speed:.0%}",
            *(number(None if each is None else each / GB) for each in sizes),
        )


def preview(found: Results) -> Table:
    """Where the time of a preview goes."""
    figures = found.figures(PREVIEW)
    breakdown = figure(figures, "breakdown")
    if breakdown is None:
        return Table("The preview", (), ())
    rows = [(title, number(breakdown[name], ".0f")) for name, title in PHASES.items()]
    rows.append(("request to PNG", number(figures["ms"], ".0f")))
    note = "Each line is a median by itself, so the lines need not add up to the last one."
    return Table("The preview, ms", ("part", "ms"), tuple(rows), note)
