"""What a node says: how far its edits are, and how they were made."""

from __future__ import annotations

from collections.abc import Sequence

from qied_client import Progress, Result

_PHASES = {
    "encode_prompt": "reading the prompt",
    "encode_image": "reading the picture",
    "prepare_steps": "preparing the steps",
    "denoise": "editing",
    "redraw": "redrawing",
    "decode": "finishing",
    "upscale": "upscaling",
    "disk": "waiting for the daemon's disk",
}


def news_text(news: Progress) -> str:
    """One piece of news of an edit, as a line; "" for a picture that forms, of whose step news came before."""
    if news.kind == "preview":
        return ""
    if news.kind == "queued":
        words = [news.note or "waiting"]
        words += [] if news.place is None else [f"place {news.place}"]
        words += [] if news.starts_in_ms is None else [f"starts in {duration(news.starts_in_ms)}"]
        return ", ".join(words)
    if news.kind in ("waiting", "requeued"):
        return news.note or "waiting"
    if news.kind in ("upload", "download"):
        return f"{news.kind}ing"
    if news.kind == "step":
        count = f"{_PHASES.get(news.phase, 'editing')} {news.done}/{news.total}"
        return count if news.remaining_ms is None else f"{count}, {duration(news.remaining_ms)} left"
    return _PHASES.get(news.phase, news.phase or "editing")


def duration(milliseconds: float) -> str:
    """A time in seconds or minutes: ``12.3 s``, ``4 min``."""
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def info_text(results: Sequence[Result]) -> str:
    """How results were made, the precision first, as in ``[FP8]``; what they warn of; and their jobs."""
    return "\n".join(line for result in results for line in _lines(result, drawn=True))


def enlarging_text(results: Sequence[Result]) -> str:
    """The same of results that were only enlarged, which no settings count for."""
    return "\n".join(line for result in results for line in _lines(result, drawn=False))


def _lines(result: Result, *, drawn: bool) -> list[str]:
    facts = [f"{result.width} x {result.height}"]
    facts += [f"turn {result.turn}"] if result.turn is not None else []
    if result.steps and drawn:
        facts += [f"seed {result.seed}", f"{result.steps} steps", f"guidance {result.true_cfg_scale:g}"]
    facts += [result.preset] if result.preset and drawn else []
    if "held_ms" in result.timings:
        facts.append(duration(float(result.timings["held_ms"])))
    precision = f"[{result.precision.upper()}] " if result.precision and drawn else ""
    return [f"{precision}{', '.join(facts)}", *(f"Warning: {each}" for each in result.warnings), result.job]
