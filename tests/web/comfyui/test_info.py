"""What graphs may name, as a daemon tells it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from qied_client.errors import VersionMismatch
from qied_client.web.comfyui import info_api, nodes
from qied_client.workflows import UNDERSTOOD
from qied_client.workflows.canvas.widgets import WIDGETS, widget_names
from qied_client.workflows.served import other_model

from tests.workflows.test_refusals import SERVED


class Older:
    """A daemon that has no list of upscalers yet."""

    async def describe(self) -> Any:
        return SimpleNamespace(model="builtin")

    async def loras(self) -> Any:
        return (SimpleNamespace(name="ink", problem=""), SimpleNamespace(name="torn", problem="it is truncated"))

    async def upscalers(self) -> Any:
        raise VersionMismatch("This daemon has no list of upscalers.", "Update it.")


async def test_an_older_daemon_tells_all_but_its_upscalers() -> None:
    told = await info_api._of_daemon(Older())  # type: ignore[arg-type]
    assert told[nodes.MODELS] == ["builtin.safetensors"] and told[nodes.LORAS] == ["ink.safetensors"]
    assert told[nodes.UPSCALERS] == []


async def test_the_model_is_listed_by_the_names_of_comfyuis_files_too() -> None:
    class Newer(Older):
        async def describe(self) -> Any:
            return SimpleNamespace(model="qwen-image-edit-2511")

    told = await info_api._of_daemon(Newer())  # type: ignore[arg-type]
    assert told[nodes.MODELS][0] == "qwen-image-edit-2511.safetensors"
    assert "qwen_image_edit_2511_fp8mixed.safetensors" in told[nodes.MODELS]
    assert all(other_model(file, SERVED) == "" for file in told[nodes.MODELS])
    assert "qwen_2.5_vl_7b_fp8_scaled.safetensors" in told[nodes.TEXT_ENCODERS]


_PACKAGES = "rgthree|KJ|Nunchaku|MultiGPU|GGUF|easy |CR |Qied|pysssss|Constant|Impact|Unload|Image Save"
_UNTOLD = {
    *("CheckpointLoader", "ResizeImageMaskNode", "ResolutionSelector", "JoinStrings", "GetImageSize+"),
    *("GetImageSizeAndCount", "ModelPatchTorchSettings", "TorchCompileModelQwenImage"),
}
"""Classes of packages by their names; one that is older, and those with inputs that clients of the API do not know."""


def test_all_of_comfyuis_own_classes_that_graphs_may_have_are_told() -> None:
    left = {name for name in UNDERSTOOD if name not in nodes.NODES and not re.search(_PACKAGES, name)}
    assert left == _UNTOLD
    assert set(nodes.NODES) <= set(UNDERSTOOD)


@pytest.mark.parametrize("name", sorted(set(nodes.NODES) & set(WIDGETS)))
def test_values_are_in_the_order_in_which_a_canvas_has_them(name: str) -> None:
    """Clients turn a canvas into a graph by the order of the inputs that they are told."""
    node = nodes.NODES[name]
    inputs = {**node.required, **node.optional}
    values = [each for each, kind in inputs.items() if isinstance(kind, nodes.Listed) or not _is_link(kind)]
    known = [each for each in widget_names(name) if each in values]
    assert values == known


def _is_link(kind: Any) -> bool:
    return isinstance(kind[0], str) and kind[0] not in ("INT", "FLOAT", "STRING", "BOOLEAN")
