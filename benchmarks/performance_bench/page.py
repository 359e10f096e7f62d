"""The generated parts of ``docs/performance.md``: what was measured, on which machine, by which command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forward_bench.show import MODELS
from PIL import Image
from quality_bench.tables import Table
from shop_bench.setting import NIGHT

from performance_bench import ROOT, edit_parts, forward_part, host_part, memory_part, published_part
from performance_bench.plots import forward_plot, streaming_plot
from performance_bench.reports import Results, results
from tools.generated_part import update

PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "pictures"
FORWARD_PLOT, STREAMING_PLOT = "performance-forward.png", "performance-streaming.png"
_SPEED = ("ceilings", *MODELS)


def write_page(*, check: bool, folder: Path | None = None) -> int:
    """Write the page's parts and plots anew from the results, or only compare the page; returns the exit status."""
    forward, vae, served, shop = (results(program, folder) for program in ("forward", "vae", "serve_edit", "shop"))
    if not check:
        _draw(forward)
    parts = {
        "performance forward": _part(
            forward,
            _SPEED,
            (forward_part.speed, forward_part.attention, forward_part.ceilings, Results.bars),
            _shown(forward, FORWARD_PLOT),
        ),
        "performance costs": _part(forward, ("breakdown", "breakdown-eager"), (forward_part.costs,)),
        "performance streaming": _part(
            forward,
            ("streaming", "streaming-fp8-attention", "group-offload"),
            (forward_part.streaming_with_fp8_attention, forward_part.streaming, forward_part.offloaded),
            _shown(forward, STREAMING_PLOT),
        ),
        "performance errors": _part(forward, ("numerics",), (forward_part.errors, forward_part.differences)),
        "performance vae": _part(
            vae, ("ours", "diffusers", "differences"), (edit_parts.vae_times, edit_parts.vae_errors, Results.bars)
        ),
        "performance edits": _part(
            served, ("8 GB", "6 GB", "preview"), (edit_parts.edits, edit_parts.preview, Results.bars)
        ),
        "performance shop": _part(shop, (NIGHT,), (edit_parts.night, Results.bars)),
        "performance memory": memory_part.markdown(folder),
        "performance loading": host_part.loading(folder),
        "performance wire": host_part.wire(folder),
        "performance web": host_part.web(folder),
        "performance published": published_part.markdown(),
    }
    return max([update(PAGE, mark, part) for mark, part in parts.items()])


def _part(
    found: Results, parts: tuple[str, ...], tables: tuple[Callable[[Results], Table], ...], plot: str = ""
) -> str:
    """One part as Markdown; without any results it says so."""
    made = [table(found) for table in tables] if any(part in found.parts for part in parts) else []
    texts = [table.markdown() for table in made if table.cells]
    return "\n".join([*found.where(*parts), *([plot] if plot else []), *texts])


def _plots(forward: Results) -> dict[str, Callable[[Results], Image.Image]]:
    """The plots that there is something to draw for."""
    made: dict[str, Callable[[Results], Image.Image]] = {}
    if forward_part.speed(forward).cells:
        made[FORWARD_PLOT] = forward_plot
    if forward_part.streamed_rows(forward):
        made[STREAMING_PLOT] = streaming_plot
    return made


def _shown(forward: Results, name: str) -> str:
    titles = {FORWARD_PLOT: "time of a forward against tokens", STREAMING_PLOT: "speed against weights on the card"}
    return f"![{titles[name]}](pictures/{name})\n" if name in _plots(forward) else ""


def _draw(forward: Results) -> None:
    for name, plot in _plots(forward).items():
        plot(forward).save(PICTURES / name, optimize=True)
