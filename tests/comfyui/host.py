"""A small host of ComfyUI's node API for these tests, since ComfyUI itself is on no registry: it is not ComfyUI.

It does with a package and a workflow what ComfyUI does: loads the package by its folder's path, asks for its nodes and
checks their schemas; checks a workflow's inputs; runs it in an event loop of its own, under inference mode, all nodes
that are ready at once; keeps results of nodes whose inputs are as they were; and ends at the first failure, which
cancels the nodes that still wait. What a browser would show is in ``Run.seen``.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin

from tests.comfyui import api

Workflow = Mapping[str, Mapping[str, Any]]
"""A graph as ``POST /prompt`` takes it."""
_NUMBERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class InvalidWorkflow(Exception):
    """What ComfyUI answers with 400: the errors by node, as (type, details)."""

    def __init__(self, errors: dict[str, list[tuple[str, str]]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


@dataclass
class Run:
    """One run of a workflow: what was shown, each node's outputs and what it gave for its face."""

    seen: api.Seen = field(default_factory=api.Seen)
    outputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    error: BaseException | None = None
    failed_node: str = ""

    def image(self, node: str) -> torch.Tensor:
        """The IMAGE that a node gave; raises what the run ended with."""
        if self.error is not None:
            raise self.error
        image = self.outputs[node][0]
        assert isinstance(image, torch.Tensor)
        return image


class LoadImage(api.ComfyNode):
    """ComfyUI's own: IMAGE, and 1 - alpha as MASK, or zeros of 64 x 64."""

    folder: Path

    @classmethod
    def run(cls, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(cls.folder / image) as opened:
            upright = ImageOps.exif_transpose(opened)
            levels = np.asarray(upright.convert("RGB"), np.float32) / np.float32(255)
            mask = torch.zeros((1, 64, 64))
            if "A" in upright.getbands():
                mask = 1 - torch.from_numpy(np.asarray(upright.getchannel("A"), np.float32) / np.float32(255))[None]
        return torch.from_numpy(levels)[None], mask


class Host:
    """ComfyUI with the nodes of one package. ``folder`` has its input and output folders."""

    def __init__(self, folder: Path) -> None:
        self.input, self.output = folder / "input", folder / "output"
        self.input.mkdir()
        self.output.mkdir()
        self.interruption = api.Interruption()
        self.nodes: dict[str, type[api.ComfyNode]] = {}
        self.module: Any = None
        self._run = Run()
        self._runs: dict[int, Run] = {}
        self._cache: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {}
        self._replaced: dict[str, Any] = {}
        self._builtin = {
            "LoadImage": (type("LoadImage", (LoadImage,), {"folder": self.input}).run, ("IMAGE", "MASK")),  # type: ignore[attr-defined]
            "SaveImage": (self._save, ()),
            "PreviewImage": (lambda images: (), ()),
            "PreviewAny": (lambda source: (str(source),), ("STRING",)),
        }

    def load(self, package: Path) -> None:
        """Import a package of nodes by its path, as ComfyUI does; raises what ComfyUI would refuse it for."""
        for name, module in api.modules(lambda: self._run.seen, self.interruption).items():
            self._replaced[name] = sys.modules.get(name)
            sys.modules[name] = module
        self._name = str(package).replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(self._name, package / "__init__.py")
        assert spec is not None and spec.loader is not None
        self.module = sys.modules[self._name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        asyncio.run(self._ask_for_nodes())

    async def _ask_for_nodes(self) -> None:
        extension = await self.module.comfy_entrypoint()
        if not isinstance(extension, api.ComfyExtension):
            raise TypeError("comfy_entrypoint did not return a ComfyExtension")
        await extension.on_load()
        found = await extension.get_node_list()
        if not isinstance(found, list):
            raise TypeError("get_node_list did not return a list")
        for node in found:
            schema = node.schema()
            assert schema.node_id not in self.nodes, schema.node_id
            self.nodes[schema.node_id] = node

    def unload(self) -> None:
        """Forget the package and ComfyUI's modules."""
        for name in [name for name in sys.modules if name == self._name or name.startswith(f"{self._name}.")]:
            del sys.modules[name]
        for name, module in self._replaced.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module

    def part(self, name: str) -> Any:
        """A module of the package, such as ``daemon.connections``."""
        return sys.modules[f"{self._name}.{name}"]

    def interrupt(self) -> None:
        """Press cancel."""
        self.interruption.flag = True

    def run(self, workflow: Workflow, seen: api.Seen | None = None) -> Run:
        """Check and run a workflow; raises InvalidWorkflow. An error of a node is in the result."""
        self.check(workflow)
        run = self._run = Run(seen or api.Seen())
        self.interruption.flag = False
        asyncio.run(self._execute(workflow, run))
        return run

    def start(self, workflow: Workflow, seen: api.Seen | None = None) -> tuple[threading.Thread, list[Run]]:
        """The same in a thread, as ComfyUI's server has it; the list gets the run."""
        runs: list[Run] = []
        thread = threading.Thread(target=lambda: runs.append(self.run(workflow, seen)))
        thread.start()
        return thread, runs

    def widgets(self, kind: str) -> list[str]:
        """Names of a node's widgets in the page's order; "" for those that are not sent."""
        if kind in self._builtin:
            return {"LoadImage": ["image", ""], "SaveImage": ["filename_prefix"]}.get(kind, [])
        inputs = self.nodes[kind].schema().inputs
        ordered = [each for optional in (False, True) for each in inputs if each.optional is optional]
        found = []
        for each in ordered:
            if each.is_widget:
                found += [each.id, ""] if "control_after_generate" in each.settings else [each.id]
        return found

    # Checking

    def check(self, workflow: Workflow) -> None:
        """Raise InvalidWorkflow with all that ComfyUI finds wrong in the inputs."""
        errors = {number: found for number, node in workflow.items() if (found := self._wrong(workflow, node))}
        if errors:
            raise InvalidWorkflow(errors)

    def _wrong(self, workflow: Workflow, node: Mapping[str, Any]) -> list[tuple[str, str]]:
        kind, inputs = node["class_type"], node["inputs"]
        if kind in self._builtin:
            missing = kind == "LoadImage" and not (self.input / inputs["image"]).exists()
            return [("custom_validation_failed", f"Invalid image file: {inputs['image']}")] if missing else []
        if kind not in self.nodes:
            return [("missing_node_type", f"Node '{kind}' not found")]
        found = []
        validate = getattr(self.nodes[kind], "validate_inputs", None)
        validated = inspect.getfullargspec(validate).args if validate else []
        for each in self.nodes[kind].schema().inputs:
            if each.id not in inputs:
                found += [] if each.optional else [("required_input_missing", each.id)]
                continue
            value = inputs[each.id]
            if api.is_link(value):
                given = self._types(workflow[value[0]]["class_type"])[value[1]]
                found += [] if given == each.io_type else [("return_type_mismatch", f"{each.id}, {given}")]
            elif not each.is_widget:
                found.append(("bad_linked_input", each.id))
            else:
                found += _wrong_value(each, value, each.id in validated)
        if validate and (said := validate(**{name: inputs[name] for name in validated if name in inputs})) is not True:
            found.append(("custom_validation_failed", str(said)))
        return found

    def _types(self, kind: str) -> tuple[str, ...]:
        if kind in self._builtin:
            return self._builtin[kind][1]
        return tuple(each.io_type for each in self.nodes[kind].schema().outputs)

    # Running

    async def _execute(self, workflow: Workflow, run: Run) -> None:
        with torch.inference_mode():
            waiting = dict(workflow)
            running: dict[str, asyncio.Task[None]] = {}
            while (waiting or running) and run.error is None:
                for number in [each for each, node in waiting.items() if self._ready(node, run)]:
                    running[number] = asyncio.create_task(self._one(number, waiting.pop(number), workflow, run))
                assert running, f"a circle, or a link into nothing: {sorted(waiting)}"
                await asyncio.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
                for number in [each for each, task in running.items() if task.done()]:
                    task = running.pop(number)
                    if (error := task.exception()) is not None:
                        run.error, run.failed_node = error, number
                        break
        # Whatever still runs is cancelled as the loop closes.

    @staticmethod
    def _ready(node: Mapping[str, Any], run: Run) -> bool:
        return all(value[0] in run.outputs for value in node["inputs"].values() if api.is_link(value))

    async def _one(self, number: str, node: Mapping[str, Any], workflow: Workflow, run: Run) -> None:
        if self.interruption():
            raise api.InterruptProcessingException
        kind = node["class_type"]
        key = self._key(number, workflow)
        cached = self._cache.get(number)
        if cached is not None and cached[0] == key:
            _, run.outputs[number], run.ui[number] = cached
            return
        inputs = {
            name: run.outputs[value[0]][value[1]] if api.is_link(value) else value
            for name, value in node["inputs"].items()
        }
        api.NODE.set(number)
        run.executed.append(number)
        if kind in self._builtin:
            outputs, face = self._builtin[kind][0](**inputs), {}
        else:
            outputs, face = await self._run_node(kind, number, inputs)
        run.outputs[number], run.ui[number] = outputs, face
        self._cache[number] = (key, outputs, face)

    async def _run_node(self, kind: str, number: str, inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        node = self.nodes[kind]
        schema = node.schema()
        converted = {
            each.id: _NUMBERS[each.io_type](inputs[each.id])
            if each.is_widget and each.io_type in _NUMBERS
            else inputs[each.id]
            for each in schema.inputs
            if each.id in inputs
        }
        hidden = {"unique_id": number} if api.Hidden.unique_id in schema.hidden else {}
        execute = node.execute.__func__  # type: ignore[attr-defined]
        given = execute(api.locked(node, hidden), **converted)
        result = await given if inspect.isawaitable(given) else given
        assert isinstance(result, api.NodeOutput), f"{kind} returned {type(result).__name__}"
        assert len(result.args) == len(schema.outputs), f"{kind} gave {len(result.args)} of {len(schema.outputs)}"
        return result.args, {} if result.ui is None else result.ui.as_dict()

    def _key(self, number: str, workflow: Workflow) -> str:
        """What a node's outputs depend on: its class and inputs, those of the nodes before it, and fingerprints."""
        node = workflow[number]
        kind, inputs = node["class_type"], node["inputs"]
        parts: list[Any] = [kind]
        for name, value in sorted(inputs.items()):
            parts.append([name, self._key(value[0], workflow) + str(value[1]) if api.is_link(value) else value])
        if kind == "LoadImage":
            parts.append(hashlib.sha256((self.input / inputs["image"]).read_bytes()).hexdigest())
        fingerprint = getattr(self.nodes.get(kind), "fingerprint_inputs", None)
        if fingerprint is not None:
            parts.append(str(fingerprint(**{k: v for k, v in inputs.items() if not api.is_link(v)})))
        return json.dumps(parts)

    def _save(self, images: torch.Tensor, filename_prefix: str) -> tuple[()]:
        for each in images:
            count = len(list(self.output.iterdir()))
            Image.fromarray((each * 255).round().byte().numpy()).save(self.output / f"{filename_prefix}_{count}.png")
        return ()


def _wrong_value(each: Any, value: Any, validated: bool) -> list[tuple[str, str]]:
    try:
        value = _NUMBERS.get(each.io_type, lambda same: same)(value)
    except (TypeError, ValueError):
        return [("invalid_input_type", each.id)]
    if validated:
        return []
    if "min" in each.settings and value < each.settings["min"]:
        return [("value_smaller_than_min", each.id)]
    if "max" in each.settings and value > each.settings["max"]:
        return [("value_bigger_than_max", each.id)]
    if each.io_type == "COMBO" and value not in each.settings["options"]:
        return [("value_not_in_list", each.id)]
    return []


def as_the_page_sends(host: Host, workflow: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A workflow as ComfyUI's page saves it, as it sends it to be run: links by number, widgets by their order."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    sent = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        values = list(node["widgets_values"])
        inputs: dict[str, Any] = {}
        for name in host.widgets(kind):
            value = values.pop(0)
            if name:
                inputs[name] = value
        assert not values, f"{kind} has {values} left"
        inputs |= {each["name"]: links[each["link"]] for each in node["inputs"] if each["link"] is not None}
        sent[str(node["id"])] = {"class_type": kind, "inputs": inputs}
    return sent


def chunks_of(file: bytes) -> dict[str, Any]:
    """The graphs in a PNG, by the names that ComfyUI's page looks for: workflow, and prompt."""
    import io

    with Image.open(io.BytesIO(file)) as opened:
        opened.load()
        assert isinstance(opened, PngImagePlugin.PngImageFile)
        return {name: json.loads(opened.text[name]) for name in ("workflow", "prompt") if name in opened.text}
