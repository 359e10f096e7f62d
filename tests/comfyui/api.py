"""The part of ComfyUI's node API (V3) that a package of nodes meets, written for these tests: it is not ComfyUI.

Constructors take the parameters of ComfyUI 0.3.64, the oldest version that qied-nodes promises to run in, and no
others, so that a newer one that is used by mistake is found. Names, what is checked and what is refused are ComfyUI's.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

NODE: contextvars.ContextVar[str] = contextvars.ContextVar("node")
"""Id of the node that runs."""


class Hidden(StrEnum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class HiddenHolder:
    """Hidden inputs of one run; what the schema does not ask for is None."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> None:
        return None


class Input:
    io_type = ""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
    ) -> None:
        self.id, self.display_name, self.optional, self.tooltip, self.lazy = id, display_name, optional, tooltip, lazy
        self.extra_dict = extra_dict or {}
        self.default: Any = None
        self.is_widget = False


class Output:
    io_type = ""

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list


def _widget(io_type: str, *more: str) -> type[Any]:
    """A type with a widget, whose inputs take ``more`` parameters besides those of every input."""
    known = ("display_name", "optional", "tooltip", "lazy", "default", "socketless", "force_input", *more)

    class WidgetInput(Input):
        def __init__(self, id: str, **given: Any) -> None:
            if unknown := given.keys() - set(known):
                raise TypeError(f"{io_type}.Input got unexpected arguments {sorted(unknown)}")
            super().__init__(id, **{name: given[name] for name in known[:4] if name in given})
            self.is_widget = True
            self.settings = {name: given[name] for name in more if given.get(name) is not None}
            self.default = given.get("default")

    return _type(io_type, WidgetInput)


def _type(io_type: str, base: type[Input] = Input) -> type[Any]:
    return type(
        io_type,
        (),
        {
            "io_type": io_type,
            "Input": type("Input", (base,), {"io_type": io_type}),
            "Output": type("Output", (Output,), {"io_type": io_type}),
        },
    )


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalized(self) -> Schema:
        for number, each in enumerate(self.outputs):
            each.id = each.id or f"_{number}_{each.io_type}_"
        ids = [each.id for each in (*self.inputs, *self.outputs)]
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        if repeated:
            raise ValueError(f"ids of {self.node_id} must be unique, but {repeated} are not")
        return self


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, expand: Any = None, block_execution: str | None = None) -> None:
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution


class ComfyNode:
    """Base of nodes: classes without state, of which each run gets a copy that cannot be changed."""

    hidden: HiddenHolder

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **inputs: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def schema(cls) -> Schema:
        return cls.define_schema().finalized()


def locked(node: type[ComfyNode], hidden: Mapping[str, Any]) -> type[ComfyNode]:
    """A copy of a node class with the hidden inputs of a run, whose attributes cannot be set."""

    def refuse(cls: type, name: str, value: object) -> None:
        raise AttributeError(f"Cannot modify class attribute '{name}' on locked class '{cls.__name__}'")

    meta = type("LockedMeta", (type(node),), {"__setattr__": refuse})
    return meta(f"{node.__name__}Clone", (node,), {"hidden": HiddenHolder(hidden)})  # type: ignore[no-any-return]


class ComfyExtension:
    async def on_load(self) -> None:
        """ComfyUI calls it before it asks for the nodes."""

    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError


class InterruptProcessingException(Exception):
    pass


class PreviewImage:
    def __init__(self, image: Any, animated: bool = False, cls: type[ComfyNode] | None = None) -> None:
        self.image = image

    def as_dict(self) -> dict[str, Any]:
        return {"images": [{"shape": list(each.shape)} for each in self.image]}


@dataclass
class Seen:
    """What a browser is shown while a workflow runs: (node, text), (node, done, total), (node, picture)."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    progress: list[tuple[str, float, float]] = field(default_factory=list)
    previews: list[tuple[str, Any]] = field(default_factory=list)
    on_text: Callable[[str, str], None] = lambda node, text: None

    def of(self, node: str) -> list[str]:
        return [text for each, text in self.texts if each == node]


class Interruption:
    """The flag of the cancel button, which ComfyUI clears as it begins with a workflow."""

    def __init__(self) -> None:
        self.flag = False

    def __call__(self) -> bool:
        return self.flag


def modules(seen: Callable[[], Seen], interruption: Interruption) -> dict[str, types.ModuleType]:
    """ComfyUI's modules by name, as they are put into ``sys.modules``; ``seen`` gives what shows the present run."""

    class ProgressBar:
        def __init__(self, total: float, node_id: str | None = None) -> None:
            self.total, self.node_id = total, node_id or NODE.get()

        def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
            asyncio.get_running_loop()  # ComfyUI's hook is of the thread that runs the workflow
            if interruption.flag:
                interruption.flag = False
                raise InterruptProcessingException
            self.total = self.total if total is None else total
            seen().progress.append((self.node_id, value, self.total))
            if preview is not None:
                kind, picture, most = preview
                assert kind == "JPEG" and picture.mode == "RGB" and isinstance(most, int)
                seen().previews.append((self.node_id, picture))

    class PromptServer:
        client_id: str | None = "browser"
        instance: Any = None

        def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
            assert sid == self.client_id, "other browsers have other workflows"
            seen().texts.append((node_id, text))
            seen().on_text(node_id, text)

    PromptServer.instance = PromptServer()
    io = types.SimpleNamespace(
        **{name: globals()[name] for name in ("ComfyNode", "Hidden", "Input", "NodeOutput", "Output", "Schema")},
        Custom=_type,
        Image=_type("IMAGE"),
        Mask=_type("MASK"),
        String=_widget("STRING", "multiline", "placeholder", "dynamic_prompts"),
        Int=_widget("INT", "min", "max", "step", "control_after_generate", "display_mode"),
        Float=_widget("FLOAT", "min", "max", "step", "round", "display_mode"),
        Boolean=_widget("BOOLEAN", "label_on", "label_off"),
        Combo=_widget("COMBO", "options", "control_after_generate", "upload", "image_folder", "remote"),
    )
    made: dict[str, types.ModuleType] = {}

    def module(name: str, **content: Any) -> None:
        made[name] = types.ModuleType(name)
        made[name].__dict__.update(content)

    module("comfy_api")
    module(
        "comfy_api.latest", ComfyExtension=ComfyExtension, io=io, ui=types.SimpleNamespace(PreviewImage=PreviewImage)
    )
    module(
        "comfy.model_management",
        processing_interrupted=interruption,
        InterruptProcessingException=InterruptProcessingException,
    )
    module("comfy.utils", ProgressBar=ProgressBar)
    module("comfy", model_management=made["comfy.model_management"], utils=made["comfy.utils"])
    module("server", PromptServer=PromptServer)
    return made


def is_link(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
