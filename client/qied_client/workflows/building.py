"""From what a save node comes to, to its request: sizes on the daemon's grid, names of LoRAs, pictures found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from qied_client.errors import InvalidRequest, QiedError
from qied_client.options import edit_request
from qied_client.options.compat import compat_text
from qied_client.options.redraws import RedrawOptions
from qied_client.protocol import limits
from qied_client.protocol.request import UPSCALING, Compat
from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Evaluation, NodeNote, Refused
from qied_client.workflows.files import MaskFile, PictureFile, Pictures
from qied_client.workflows.request import WorkflowRequest
from qied_client.workflows.rules.loaders import stem
from qied_client.workflows.served import Served, lora_name, other_model
from qied_client.workflows.workflow import Node, NodeProblem

_GRID: Final = limits.SIDE_MULTIPLE
_MOST_RESULTS: Final = 64
_COMFYUI_SHIFT: Final = 1.15
"""The shift of Qwen-Image in ComfyUI where no node sets one."""
_ZEROS: Final = "An empty prompt stands for the zeros of ConditioningZeroOut."


class Building:
    """Makes the request of one save node; raises Refused with what is wrong with its nodes."""

    def __init__(self, save: Node, evaluation: Evaluation, pictures: Pictures | None, served: Served | None) -> None:
        self._save = save
        self._evaluation = evaluation
        self._pictures = pictures
        self._served = served
        self._warnings: list[str] = []

    def request(self, result: v.Result) -> WorkflowRequest:
        """The request for a result."""
        source = result.source
        if isinstance(source, v.Shown):
            request = self._upscaled(source)
        elif isinstance(source, v.OwnEdit):
            request = self._own(source)
        else:
            request = self._edit(source)
        if result.upscaler is not None:
            request = replace(request, upscale=stem(result.upscaler.file))
        request = replace(request, notes=tuple(self._evaluation.notes.values()), warnings=tuple(self._warnings))
        self._check(request, source)
        return request

    def _begin(self, prompt: str, shown: Sequence[v.Shown], node: str) -> WorkflowRequest:
        save = self._save
        prefix = save.inputs.get("filename_prefix")
        return WorkflowRequest(
            save.id,
            save.class_type,
            save.title,
            prefix if isinstance(prefix, str) else "",
            prompt,
            tuple(self._picture(each.file, node) for each in shown),
            tuple(each.file.plain_name for each in shown),
        )

    def _upscaled(self, shown: v.Shown) -> WorkflowRequest:
        return replace(self._begin(UPSCALING, [shown], self._save.id), task="upscale")

    def _edit(self, edit: v.Edit) -> WorkflowRequest:
        guidance, latents = edit.guidance, edit.latents
        shown = [*guidance.positive.read]
        if edit.over_start and not shown and latents.start is not None and not self._from_text:
            shown = [latents.start]
        request = replace(
            self._begin(guidance.positive.text, shown, guidance.positive.node),
            negative_prompt=self._negative(edit),
            seed=edit.seed,
            steps=edit.steps,
            true_cfg_scale=guidance.scale,
            loras=self._loras(guidance.model),
            count=latents.count,
            compat=_compat(guidance.model),
        )
        self._compare(guidance.model)
        passes = [RedrawOptions(strength=each.denoise, steps=each.steps, padding=0, feather=0) for each in edit.passes]
        kept = latents.start if latents.mask is not None and not edit.over_start else None
        if kept is not None and latents.mask is not None and shown and kept.file.name == shown[0].file.name:
            mask, mode = self._mask(latents.mask, latents.node)
            request = replace(request, mask=mask, mask_name=latents.mask.name, mask_mode=mode)
        elif edit.over_start or latents.mask is not None:
            assert latents.start is not None
            return self._drawn_over(request, edit, latents.start, passes)
        return replace(self._sized(request, edit, shown), redraw=tuple(passes))

    def _compare(self, model: v.Model) -> None:
        """Note what the daemon runs in place of a model's file, and warn where that is another version."""
        served = self._served
        if served is None:
            return
        note = self._evaluation.notes[model.node]
        told = f"{served.title} in {served.precision}, as the daemon runs it, for {model.file}"
        self._evaluation.notes[model.node] = replace(note, became=told)
        if warning := other_model(model.file, served):
            self._warnings.append(warning)
            self._differs(model.node, "It is another version of the model.")

    @property
    def _from_text(self) -> bool:
        return self._served is not None and self._served.max_images == 0

    def _drawn_over(
        self, request: WorkflowRequest, edit: v.Edit, start: v.Shown, passes: list[RedrawOptions]
    ) -> WorkflowRequest:
        """A pass over the picture that the latents begin from, or over what a mask marks of it."""
        node, mask = edit.latents.node, edit.latents.mask
        if start.uncut is not None:
            file, size = start.uncut, {"size": "kontext"}
        else:
            own = self._pictures.size(start.file) if self._pictures is not None else start.size
            file, size = (start.file if start.size == own else replace(start.file, scaled=start.size)), {}
        request = replace(
            request,
            canvas=self._picture(file, node),
            canvas_name=start.file.plain_name,
            others={**request.others, **size},
        )
        if mask is None and len(passes) == 1:
            return replace(request, refine=edit.passes[0].denoise)
        first = passes[0] if edit.over_start else RedrawOptions(strength=1.0, steps=edit.steps)
        first = {**first, "padding": limits.SIDE_PX, "feather": 0}
        if mask is not None:
            first["mask"], first["mask_mode"] = self._mask(mask, node)
            request = replace(request, redraw_mask_names=(mask.name,))
        return replace(request, redraw=(first, *(passes[1:] if edit.over_start else passes)))

    def _sized(self, request: WorkflowRequest, edit: v.Edit, shown: Sequence[v.Shown]) -> WorkflowRequest:
        """The request with the size of its latents, or of FluxKontextImageScale where that scaled the first picture."""
        size, start = edit.latents.size, edit.latents.start
        if start is not None and shown and start == shown[0] and start.uncut is not None:
            images = (self._picture(start.uncut, edit.node), *request.images[1:])
            return replace(request, images=images, others={**request.others, "size": "kontext"})
        if size is None:
            return request
        width, height = (min(limits.SIDE_PX, max(_GRID, (2 * side + _GRID) // (2 * _GRID) * _GRID)) for side in size)
        if (width, height) != size:
            self._differs(edit.latents.node, f"The result has {width} x {height} pixels, in multiples of {_GRID}.")
        return replace(request, width=width, height=height)

    def _negative(self, edit: v.Edit) -> str | None:
        guidance = edit.guidance
        if guidance.scale <= 1 or guidance.negative is None:
            return None
        if guidance.negative.zeroed:
            self._differs(edit.node, _ZEROS)
        if guidance.negative.kept != guidance.positive.kept and not guidance.negative.zeroed:
            self._differs(guidance.negative.node, "The negative prompt has the same pictures as the prompt.")
        return guidance.negative.text

    def _loras(self, model: v.Model) -> tuple[tuple[str, float], ...]:
        strengths: dict[str, float] = {}
        problems: list[NodeProblem] = []
        for lora in model.loras:
            name = lora_name(lora, self._evaluation.node(lora.node), self._served)
            if isinstance(name, NodeProblem):
                problems.append(name)
            else:
                strengths[name] = strengths.get(name, 0.0) + lora.strength
        if problems:
            raise Refused(problems)
        return tuple(strengths.items())

    def _own(self, edit: v.OwnEdit) -> WorkflowRequest:
        options = dict(edit.options)
        request = self._begin(edit.prompt, edit.pictures, edit.node)
        known = {name: options.pop(name) for name in _OF_REQUEST if name in options}
        request = replace(request, **cast("dict[str, Any]", known), others=options)
        if edit.mask is not None:
            mask, mode = self._mask(edit.mask, edit.node)
            request = replace(request, mask=mask, mask_name=edit.mask.name, mask_mode=mode)
        if edit.canvas is not None:
            canvas = self._picture(edit.canvas.file, edit.node)
            request = replace(request, canvas=canvas, canvas_name=edit.canvas.file.plain_name)
        return replace(
            request,
            redraw=tuple(self._region(each, edit.node) for each in edit.regions),
            redraw_mask_names=tuple("" if each.mask is None else each.mask.name for each in edit.regions),
        )

    def _region(self, region: v.OwnRegion, node: str) -> RedrawOptions:
        options: dict[str, Any] = dict(region.options)
        if region.box is not None:
            options["box"] = region.box
        if region.mask is not None:
            options["mask"], options["mask_mode"] = self._mask(region.mask, node)
        return cast("RedrawOptions", options)

    # Files

    def _picture(self, file: PictureFile, node: str) -> Any:
        return file.plain_name if self._pictures is None else self._found(node, file.name, self._pictures.picture, file)

    def _mask(self, mask: MaskFile, node: str) -> tuple[Any, Any]:
        if self._pictures is None:
            return mask.name, mask.mode or ("transparent" if mask.channel == "alpha" else "white")
        return cast("tuple[Any, Any]", self._found(node, mask.name, self._pictures.mask, mask))

    def _found(self, node: str, name: str, fetch: Callable[[Any], Any], what: object) -> Any:
        try:
            return fetch(what)
        except QiedError as error:
            self._evaluation.here(self._evaluation.node(node)).refuse_picture(name, error)

    def _differs(self, node: str, what: str) -> None:
        note = self._evaluation.notes.get(node)
        if note is None:
            found = self._evaluation.node(node)
            note = NodeNote(node, found.class_type, found.title, "")
        self._evaluation.notes[node] = replace(note, differs=" ".join(filter(None, [note.differs, what])))

    def _check(self, request: WorkflowRequest, source: v.Edit | v.Shown | v.OwnEdit) -> None:
        """Raise Refused where no daemon would take the request, whatever it serves."""
        node = self._save.id if isinstance(source, v.Shown) else source.node
        here = self._evaluation.here(self._evaluation.node(node))
        if not 1 <= request.count <= _MOST_RESULTS:
            here.refuse(f"{request.count} results at once, not 1 to {_MOST_RESULTS}.", "Make the batch smaller.")
        if not request.prompt.strip():
            where = source.guidance.positive.node if isinstance(source, v.Edit) else node
            here = self._evaluation.here(self._evaluation.node(where))
            here.refuse("its prompt is empty.", f'Write one: --set {where}.prompt="make it night"', input="prompt")
        most = limits.IMAGES if self._served is None else self._served.max_images
        if len(request.images) > most:
            takes = f"takes {most}" if most else "makes pictures from text alone"
            here.refuse(
                f"its prompt has {len(request.images)} pictures, and the daemon's model {takes}.", "Take some out."
            )
        try:
            edit_request(request.prompt, 0, cast("dict[str, object]", request.options()))
        except InvalidRequest as error:
            here.refuse(error.message, error.remedy, input=str(error.details.get("field", "")))


_OF_REQUEST: Final = (
    *("negative_prompt", "seed", "steps", "true_cfg_scale", "width", "height", "preset", "loras", "refine", "upscale"),
    "compat",
)


def _compat(model: v.Model) -> str:
    """The option by which the daemon does an edit as ComfyUI does, with what the nodes of the model set."""
    strength = 1.0 if model.cfg_norm is None else model.cfg_norm
    norm = "none" if model.cfg_norm is None else "pre" if model.before_cfg else "post"
    return compat_text(
        Compat(shift=_COMFYUI_SHIFT if model.shift is None else model.shift, cfg_norm=norm, cfg_norm_strength=strength)
    )
