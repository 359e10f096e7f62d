"""Writes the example workflows of the nodes for ComfyUI, and runs them on the built-in model for their pictures.

``python -m tools.comfyui_examples``; with ``--only-workflows`` no daemon is started. The pictures are of the demo
scene, in place of ``example.png``, which every ComfyUI has in its input folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from qied_client.picture_file.comfyui_graph import Graph, Output

from qied.private_daemon import private_daemon
from qied.resources import builtin_model_folder
from tests.comfyui.host import Host
from tools.comfyui_pages import PACKAGE

FOLDER: Final = PACKAGE / "example_workflows"
SCENE: Final = builtin_model_folder().parent / "demo.png"
INPUT: Final = "example.png"
_JPEG_QUALITY: Final = 90
_GAP_PX: Final = 12
_START_S: Final = 120.0


def _edit(graph: Graph) -> Output:
    return graph.add("QiedEdit", image1=_load(graph), prompt="make the red heart blue", seed=7)


def _several_pictures(graph: Graph) -> Output:
    first, second = _load(graph), _load(graph)
    outline = graph.add("QiedLora", name="", strength=1.0)
    loras = graph.add("QiedLora", loras=outline, name="", strength=1.0)
    prompt = "make the red heart blue in picture 1"
    return graph.add("QiedEdit", image1=first, image2=second, loras=loras, prompt=prompt, seed=7, preset="draft")


def _mask(graph: Graph) -> Output:
    picture = _load(graph)
    mask = Output(picture.node, 1)
    return graph.add("QiedEdit", image1=picture, mask=mask, prompt="make the red heart blue", seed=7)


def _turns(graph: Graph) -> Output:
    session = graph.add("QiedSession", image=_load(graph), turn=0)
    first = graph.add("QiedEdit", "First turn", session=session, prompt="make the red heart blue", seed=7)
    graph.add("PreviewImage", images=first)
    after = Output(first.node, 2)
    return graph.add("QiedEdit", "Second turn", session=after, prompt="make the green square red", seed=7)


def _redraw(graph: Graph) -> Output:
    box: dict[str, Any] = {"x": 76, "y": 76, "width": 104, "height": 104}
    return graph.add("QiedRedraw", image=_load(graph), prompt="make the red heart blue", seed=7, strength=1.0, **box)


def _upscale(graph: Graph) -> Output:
    return graph.add("QiedUpscale", image=_load(graph), upscaler="auto")


def _two_servers(graph: Graph) -> Output:
    server = graph.add("QiedServer")
    graph.add("PreviewAny", source=Output(server.node, 1))
    edit = graph.add("QiedEdit", image1=_load(graph), server=server, prompt="make the red heart blue", seed=7)
    graph.add("PreviewAny", source=Output(edit.node, 1))
    return edit


EXAMPLES: Final[dict[str, Callable[[Graph], Output]]] = {
    "edit": _edit,
    "several_pictures": _several_pictures,
    "mask": _mask,
    "session": _turns,
    "redraw": _redraw,
    "upscale": _upscale,
    "server": _two_servers,
}
"""By file name: what makes the picture that is saved, in a graph that is empty before."""


def _load(graph: Graph) -> Output:
    return graph.add("LoadImage", image=INPUT, upload="image")


def example(name: str) -> Graph:
    """The graph of one example."""
    graph = Graph()
    graph.add("SaveImage", images=EXAMPLES[name](graph), filename_prefix=f"qied_{name}")
    return graph


def as_text(graph: Graph) -> str:
    """A workflow as its file has it."""
    return json.dumps(graph.for_page(), indent=1) + "\n"


def prepared(host: Host) -> None:
    """Put the scene into the host's input folder, with its middle transparent, which Load Image gives as the mask."""
    scene = Image.open(SCENE).convert("RGBA")
    alpha = Image.new("L", scene.size, 255)
    alpha.paste(0, (70, 70, 186, 186))
    scene.putalpha(alpha)
    scene.save(host.input / INPUT)


def _picture(result: torch.Tensor) -> Image.Image:
    """The scene and the result next to each other, on white."""
    after = Image.fromarray(np.rint(result[0].numpy() * 255).astype(np.uint8)).convert("RGB")
    before = Image.open(SCENE).convert("RGB")
    both = Image.new("RGB", (before.width + _GAP_PX + after.width, max(before.height, after.height)), "white")
    both.paste(before, (0, (both.height - before.height) // 2))
    both.paste(after, (before.width + _GAP_PX, 0))
    return both


def _run(graph: Graph) -> torch.Tensor:
    workflow: dict[str, Any] = graph.for_api()
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        prepared(host)
        host.load(PACKAGE)
        try:
            done = host.run(workflow)
            saved = next(node for node in workflow.values() if node["class_type"] == "SaveImage")
            return done.image(saved["inputs"]["images"][0])
        finally:
            host.part("daemon.connections").CONNECTIONS.close()
            host.unload()


def main() -> None:
    """Write the workflows, and then their pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *EXAMPLES], help="examples to run; all without any")
    parser.add_argument("--only-workflows", action="store_true")
    options = parser.parse_args()
    for name in EXAMPLES:
        (FOLDER / f"{name}.json").write_text(as_text(example(name)), encoding="utf-8")
    if options.only_workflows:
        return
    with private_daemon(["--model", "builtin"], os.environ, _START_S, []) as daemon:
        os.environ["QIED_KEY"] = str(daemon.home / "local.key.json")
        for name in options.names or EXAMPLES:
            _picture(_run(example(name))).save(FOLDER / f"{name}.jpg", quality=_JPEG_QUALITY)
            print(name)


if __name__ == "__main__":
    main()
