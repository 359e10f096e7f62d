"""What a save node of a workflow asks for: an edit with all its options, and what each node became in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from qied_client.inputs import Picture
from qied_client.options import EditOptions
from qied_client.options.redraws import RedrawOptions
from qied_client.workflows.evaluating import NodeNote


@dataclass(frozen=True)
class WorkflowRequest:
    """One edit, for the save node ``node_id``; options that are None or empty are the daemon's choice.

    ``names`` are the files of ``images``, as the workflow has them; ``images``, ``mask`` and ``canvas`` are what
    ``Client.edit`` takes; ``mask_name``, ``canvas_name`` and ``redraw_mask_names`` are the files of the others.
    ``width`` and ``height`` are pixels. ``count`` is how many results there are, of seeds that follow each other.
    ``compat`` is "comfyui", with settings of the graph's nodes, where pictures, schedule, noise and guidance are to be
    ComfyUI's. ``others`` are options that are rare in graphs, such as ``size``. ``task`` is ``upscale`` where a
    picture is enlarged and nothing else is done.
    """

    node_id: str
    class_type: str
    title: str
    filename_prefix: str
    prompt: str
    images: tuple[Picture, ...] = ()
    names: tuple[str, ...] = ()
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    true_cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    preset: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    mask: Picture | None = None
    mask_name: str = ""
    mask_mode: str = "auto"
    canvas: Picture | None = None
    canvas_name: str = ""
    redraw: tuple[RedrawOptions, ...] = ()
    redraw_mask_names: tuple[str, ...] = ()
    refine: float | None = None
    upscale: str = ""
    task: str = "edit"
    count: int = 1
    compat: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[NodeNote, ...] = ()
    warnings: tuple[str, ...] = ()

    def options(self) -> EditOptions:
        """The options of ``Client.edit``, less those that are the daemon's choice."""
        given: dict[str, Any] = {
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "steps": self.steps,
            "true_cfg_scale": self.true_cfg_scale,
            "width": self.width,
            "height": self.height,
            "preset": self.preset,
            "loras": [*self.loras] or None,
            "mask": self.mask,
            "mask_mode": self.mask_mode if self.mask is not None else None,
            "canvas": self.canvas,
            "redraw": [*self.redraw] or None,
            "refine": self.refine,
            "upscale": self.upscale or None,
            "compat": self.compat or None,
            "task": self.task if self.task != "edit" else None,
            **self.others,
        }
        return cast("EditOptions", {name: value for name, value in given.items() if value is not None})

    def facts(self) -> dict[str, Any]:
        """The request as JSON has it, with names in place of pictures."""
        facts: dict[str, Any] = {"node": self.node_id, "class_type": self.class_type, "prompt": self.prompt}
        facts["images"] = list(self.names)
        named = {"mask": self.mask_name, "canvas": self.canvas_name}
        for name, value in self.options().items():
            facts[name] = named.get(name, value)
        if self.redraw:
            names = (*self.redraw_mask_names, *("" for _ in self.redraw))
            passes = zip(self.redraw, names, strict=False)
            facts["redraw"] = [{**each, "mask": name} if "mask" in each else dict(each) for each, name in passes]
        return {**facts, "count": self.count, "filename_prefix": self.filename_prefix}
