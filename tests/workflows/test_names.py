"""Where results of a workflow go: patterns, names as ComfyUI gives them, and prefixes that lead elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from qied_client.cli.workflows.names import places_for
from qied_client.workflows import WorkflowRequest


def request(node: str, prefix: str, count: int = 1) -> WorkflowRequest:
    return WorkflowRequest(node, "SaveImage", "", prefix, "x", count=count)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(requests: list[WorkflowRequest], out: str | None = None) -> list[str]:
    return [str(place.out) for place in places_for(requests, None if out is None else Path(out), None)]


def test_without_a_name_results_are_numbered_as_comfyui_does_it(folder: Path) -> None:
    (folder / "a_00001_.png").touch()
    assert names([request("9", "a"), request("170:9", "a"), request("10", "b")]) == [
        *("a_00002_.png", "a_00003_.png", "b_00001_.png")
    ]


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("sub\\folder\\x", "x"),
        ("%date:yyyy%/poster %KSampler.seed%", "poster"),
        ("...", "ComfyUI"),
        ("", "ComfyUI"),
        ("a/b/", "ComfyUI"),
        ("ein Bild: ä?", "ein-Bild-ä"),
    ],
)
def test_a_prefix_is_a_name_in_this_folder(prefix: str, name: str) -> None:
    assert names([request("9", prefix)]) == [f"{name}_00001_.png"]


def test_patterns_tell_several_results_apart() -> None:
    two = [request("9", "a"), request("170:9", "a")]
    assert names(two, "x.png") == ["x-9.png", "x-170-9.png"]
    assert names(two, "{node}.webp") == ["9.webp", "170-9.webp"]
    assert names(two, "{prefix}-{seed}.png") == ["a-{seed}.png", "a-{seed}-170-9.png"]
    assert names([request("9", "a")], "x.png") == ["x.png"]
