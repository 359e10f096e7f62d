"""The values of a node's widgets by their names, which a canvas keeps by position alone.

A canvas has no table of classes, so the order of the widgets of each class that means something here stands in
``WIDGETS``. After a seed the page keeps one value more: what becomes of the seed after a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from qied_client.picture_file.comfyui_nodes import KINDS, SEED
from qied_client.workflows.canvas.graph import CanvasNode

_CONTROL: Final = "control_after_generate"
_CONTROLS: Final = frozenset({"fixed", "increment", "decrement", "randomize"})
_UNUSED: Final = ""
"""Stands for a button, whose value says nothing."""
_POWER_LORAS: Final = "Power Lora Loader (rgthree)"
"""Its widgets are objects, one for each LoRA."""


def _with_control(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for name in names for each in ((name, _CONTROL) if name == SEED else (name,)))


WIDGETS: Final[Mapping[str, tuple[str, ...]]] = {
    # Loaders
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "UnetLoaderGGUFAdvanced": ("unet_name", "dequant_dtype", "patch_dtype", "patch_on_device"),
    "LoaderGGUF": ("gguf_name",),
    "DiffusionModelLoaderKJ": ("model_name", "weight_dtype", "compute_dtype"),
    "NunchakuQwenImageDiTLoader": ("model_name",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CheckpointLoader": ("config_name", "ckpt_name"),
    "CLIPLoader": ("clip_name", "type", "device"),
    "CLIPLoaderGGUF": ("clip_name", "type"),
    "ClipLoaderGGUF": ("clip_name", "type"),
    "VAELoader": ("vae_name",),
    "VaeGGUF": ("vae_name",),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "Lora Loader Stack (rgthree)": tuple(f"{name}_{n:02}" for n in range(1, 5) for name in ("lora", "strength")),
    "NunchakuQwenImageLoraLoader": ("lora_name", "lora_strength", "cpu_offload"),
    "VAELoaderKJ": ("vae_name", "device", "weight_dtype"),
    "UpscaleModelLoader": ("model_name",),
    "ModelSamplingAuraFlow": ("shift", "sampling"),
    "ModelSamplingSD3": ("shift", "sampling"),
    "CFGNorm": ("strength", "pre_cfg"),
    # Prompts
    "CLIPTextEncode": ("text",),
    "TextEncodeQwenImageEdit": ("prompt",),
    "TextEncodeQwenImageEditPlus": ("prompt",),
    "FluxKontextMultiReferenceLatentMethod": ("reference_latents_method",),
    # Pictures and masks
    "LoadImage": ("image", _UNUSED),
    "LoadImageOutput": ("image", _UNUSED),
    "LoadImageMask": ("image", "channel", _UNUSED),
    "ImageToMask": ("channel",),
    "GrowMask": ("expand", "tapered_corners"),
    "FeatherMask": ("left", "top", "right", "bottom"),
    "ThresholdMask": ("value",),
    "ImageScale": ("upscale_method", "width", "height", "crop"),
    "ImageScaleBy": ("upscale_method", "scale_by"),
    "ImageScaleToTotalPixels": ("upscale_method", "megapixels", "resolution_steps"),
    "ImageScaleToMaxDimension": ("upscale_method", "largest_size"),
    "ImageCrop": ("width", "height", "x", "y"),
    "ImageResizeKJv2": (
        *("width", "height", "upscale_method", "keep_proportion", "pad_color", "crop_position", "divisible_by"),
        "device",
    ),
    # Latents and sampling
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "RepeatLatentBatch": ("amount",),
    "VAEEncodeForInpaint": ("grow_mask_by",),
    "InpaintModelConditioning": ("noise_mask",),
    "VAEDecodeTiled": ("tile_size", "overlap", "temporal_size", "temporal_overlap"),
    "VAEEncodeTiled": ("tile_size", "overlap", "temporal_size", "temporal_overlap"),
    "KSampler": ("seed", _CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", _CONTROL, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", _CONTROL, "cfg"),
    "RandomNoise": ("noise_seed", _CONTROL),
    "CFGGuider": ("cfg",),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "ManualSigmas": ("sigmas",),
    # Values
    "INTConstant": ("value",),
    "FloatConstant": ("value",),
    "StringConstant": ("string",),
    "StringConstantMultiline": ("string", "strip_newlines"),
    "Seed (rgthree)": ("seed", _UNUSED, _UNUSED, _UNUSED),
    "PrimitiveInt": ("value", _CONTROL),
    "PrimitiveFloat": ("value", _CONTROL),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "PrimitiveBoolean": ("value",),
    "easy int": ("value",),
    "easy float": ("value",),
    "easy string": ("value",),
    "easy boolean": ("value",),
    "easy positive": ("positive",),
    "easy negative": ("negative",),
    "easy seed": ("seed", _CONTROL, _UNUSED),
    "CR Text": ("text",),
    "CR Prompt Text": ("prompt",),
    "ComfySwitchNode": ("switch",),
    "LazySwitchKJ": ("switch",),
    "ImpactSwitch": ("select", "sel_mode"),
    "CR Image Input Switch": ("Input",),
    "JoinStrings": ("delimiter",),
    "ResolutionSelector": ("aspect_ratio", "megapixels", "multiple", "minimum"),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    # Results
    "SaveImage": ("filename_prefix",),
    "SaveImageAdvanced": ("filename_prefix", "format", "bit_depth", "colorspace"),
    "Image Save": ("output_path", "filename_prefix"),
    "ImageCompositeMasked": ("x", "y", "resize_source"),
    # Nodes of qied
    **{name: _with_control(kind.widgets) for name, kind in KINDS.items() if name.startswith("Qied")},
}
"""Widgets of each class in their order; ``control_after_generate`` and buttons are no inputs."""


ON_DEVICES: Final[Mapping[str, str]] = {
    f"{name}{suffix}": name
    for name in ("UNETLoader", "UnetLoaderGGUF", "CheckpointLoaderSimple", "CLIPLoader", "CLIPLoaderGGUF", "VAELoader")
    for suffix in ("MultiGPU", "DisTorchMultiGPU", "DisTorch2MultiGPU")
}
"""Loaders of ComfyUI-MultiGPU, and the class that each is one of, with more widgets at the end."""
_CHANGING: Final[Mapping[str, tuple[str, Mapping[str, tuple[str, ...]], tuple[str, ...]]]] = {
    "ResizeImageMaskNode": (
        "resize_type",
        {
            "scale dimensions": ("width", "height", "crop"),
            "scale by multiplier": ("multiplier",),
            "scale longer dimension": ("longer_size",),
            "scale shorter dimension": ("shorter_size",),
            "scale width": ("width",),
            "scale height": ("height",),
            "scale total pixels": ("megapixels",),
            "match size": ("crop",),
            "scale to multiple": ("multiple",),
        },
        ("scale_method",),
    ),
}
"""Classes whose first widget says which ones follow: its name, those of each choice, and the others."""


def widget_values(node: CanvasNode) -> dict[str, Any]:
    """The values of a node's widgets by name; of a class that is not known, by the names that its inputs have."""
    if isinstance(node.values, Mapping):
        return {str(name): value for name, value in node.values.items() if str(name) != _CONTROL}
    if node.type == _POWER_LORAS:
        entries = [value for value in node.values if isinstance(value, Mapping) and "lora" in value]
        return {f"lora_{number}": value for number, value in enumerate(entries, 1)}
    names = _names_of(node)
    if names is not None:
        return _by_position(names, node.values)
    shown = [slot.name for slot in node.inputs if slot.widget]
    values = _without_controls(node.values)
    return dict(zip(shown, values, strict=True)) if len(shown) == len(values) else {}


def _names_of(node: CanvasNode) -> tuple[str, ...] | None:
    if node.type in _CHANGING:
        first, more, last = _CHANGING[node.type]
        chosen = next(iter(node.values), None)
        following = more.get(chosen, ()) if isinstance(chosen, str) else ()
        return (first, *(f"{first}.{name}" for name in following), *last)
    return WIDGETS.get(ON_DEVICES.get(node.type, node.type))


def widget_names(class_type: str) -> tuple[str, ...]:
    """Names of the widgets of a class that are inputs; none for a class that is not known."""
    return tuple(
        name for name in WIDGETS.get(ON_DEVICES.get(class_type, class_type), ()) if name not in (_CONTROL, _UNUSED)
    )


def _by_position(names: tuple[str, ...], values: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = iter(values)
    waiting: list[Any] = []
    for name in names:
        value = waiting.pop() if waiting else next(left, None)
        # The first versions of the page had a box to tick, and files of before that have nothing here.
        is_control = isinstance(value, bool) or (isinstance(value, str) and value in _CONTROLS)
        if name == _CONTROL and not is_control:
            waiting.append(value)
        elif name not in (_CONTROL, _UNUSED) and value is not None:
            found[name] = value
    return found


def _without_controls(values: list[Any]) -> list[Any]:
    """Values less what becomes of a seed, which stands after a number."""
    kept: list[Any] = []
    for value in values:
        after_number = bool(kept) and isinstance(kept[-1], (int, float)) and not isinstance(kept[-1], bool)
        if not (after_number and isinstance(value, str) and value in _CONTROLS):
            kept.append(value)
    return kept
