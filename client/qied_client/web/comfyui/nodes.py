"""What ComfyUI's clients are told of each class of nodes: its inputs, defaults and outputs. Lists are filled in later.

Names, defaults and ranges are those of ComfyUI's nodes (version 0.33), which its clients check a graph by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qied_client.workflows.rules.sampling import SAMPLERS, SCHEDULES

Input = tuple[Any, ...]
MODELS, LORAS, UPSCALERS, PICTURES, TEXT_ENCODERS, AUTOENCODERS = (
    *("models", "loras", "upscalers", "pictures", "text_encoders", "autoencoders"),
)
"""Lists of what the daemon, or the user, has."""


@dataclass(frozen=True)
class Listed:
    """An input that takes one name of a list."""

    what: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeClass:
    """A class: its category, the types and names of its outputs, and its inputs by name."""

    category: str
    outputs: Mapping[str, str]
    required: Mapping[str, Any]
    optional: Mapping[str, Any] = field(default_factory=dict)
    saves: bool = False


def _whole(default: int, low: int, high: int, step: int = 1, **more: Any) -> Input:
    return "INT", {"default": default, "min": low, "max": high, "step": step, **more}


def _real(default: float, low: float, high: float, step: float) -> Input:
    return "FLOAT", {"default": default, "min": low, "max": high, "step": step}


def _flag(*, default: bool) -> Input:
    return "BOOLEAN", {"default": default}


def _choice(*names: str) -> Input:
    return [*names], {}


def _link(kind: str) -> Input:
    return kind, {}


def _tiles(step: int) -> dict[str, Input]:
    """The inputs of a node that encodes or decodes in tiles."""
    return {
        "tile_size": _whole(512, 64, 4096, step),
        "overlap": _whole(64, 0, 4096, 32),
        "temporal_size": _whole(64, 8, 4096, 4),
        "temporal_overlap": _whole(8, 4, 4096, 4),
    }


_MOST_PX = 16384
_IMAGE, _MASK, _MODEL, _CLIP, _VAE = _link("IMAGE"), _link("MASK"), _link("MODEL"), _link("CLIP"), _link("VAE")
_LATENT, _CONDITIONING = _link("LATENT"), _link("CONDITIONING")
_PROMPT: Input = ("STRING", {"multiline": True, "dynamicPrompts": True})
_SEED = _whole(0, 0, 2**64 - 1, control_after_generate=True)
_SIDE, _STEPS, _DENOISE = _whole(1024, 16, _MOST_PX, 8), _whole(20, 1, 10000), _real(1.0, 0.0, 1.0, 0.01)
_CFG = _real(8.0, 0.0, 100.0, 0.1)
_SAMPLER, _SCHEDULER = _choice(*SAMPLERS), _choice(*SCHEDULES)
_SCALING = _choice("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
_CACHE = {
    "model": _MODEL,
    "reuse_threshold": _real(0.2, 0.0, 3.0, 0.01),
    "start_percent": _real(0.15, 0.0, 1.0, 0.01),
    "end_percent": _real(0.95, 0.0, 1.0, 0.01),
    "verbose": _flag(default=False),
}
_TEXT: Input = ("STRING", {"multiline": True})
_PREFIX: Input = ("STRING", {"default": "ComfyUI"})
_STRENGTH = _real(1.0, -100.0, 100.0, 0.01)
_DTYPES = _choice("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
_METHODS = _choice("offset", "index", "uxo/uno", "index_timestep_zero")
_LOADERS, _SAMPLING, _LATENTS, _PRIMITIVE = "loaders", "sampling", "latent", "utils/primitive"
_GUIDED = {"model": _MODEL, "positive": _CONDITIONING, "negative": _CONDITIONING}

NODES: Final[Mapping[str, NodeClass]] = {
    "UNETLoader": NodeClass(
        "advanced/loaders", {"MODEL": "MODEL"}, {"unet_name": Listed(MODELS), "weight_dtype": _DTYPES}
    ),
    "UnetLoaderGGUF": NodeClass("bootleg", {"MODEL": "MODEL"}, {"unet_name": Listed(MODELS)}),
    "CLIPLoaderGGUF": NodeClass(
        "bootleg", {"CLIP": "CLIP"}, {"clip_name": Listed(TEXT_ENCODERS), "type": _choice("qwen_image")}
    ),
    "CheckpointLoaderSimple": NodeClass(
        _LOADERS, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}, {"ckpt_name": Listed(MODELS)}
    ),
    "CLIPLoader": NodeClass(
        "advanced/loaders",
        {"CLIP": "CLIP"},
        {"clip_name": Listed(TEXT_ENCODERS), "type": _choice("qwen_image")},
        {"device": _choice("default", "cpu")},
    ),
    "VAELoader": NodeClass(_LOADERS, {"VAE": "VAE"}, {"vae_name": Listed(AUTOENCODERS)}),
    "LoraLoaderModelOnly": NodeClass(
        _LOADERS, {"MODEL": "MODEL"}, {"model": _MODEL, "lora_name": Listed(LORAS), "strength_model": _STRENGTH}
    ),
    "LoraLoader": NodeClass(
        _LOADERS,
        {"MODEL": "MODEL", "CLIP": "CLIP"},
        {
            "model": _MODEL,
            "clip": _CLIP,
            "lora_name": Listed(LORAS),
            "strength_model": _STRENGTH,
            "strength_clip": _STRENGTH,
        },
    ),
    "UpscaleModelLoader": NodeClass(_LOADERS, {"UPSCALE_MODEL": "UPSCALE_MODEL"}, {"model_name": Listed(UPSCALERS)}),
    "ModelSamplingAuraFlow": NodeClass(
        "advanced/model", {"MODEL": "MODEL"}, {"model": _MODEL, "shift": _real(1.73, 0.0, 100.0, 0.01)}
    ),
    "CFGNorm": NodeClass(
        "advanced/guidance",
        {"MODEL": "patched_model"},
        {"model": _MODEL, "strength": _real(1.0, 0.0, 100.0, 0.01)},
        {"pre_cfg": _flag(default=False)},
    ),
    "TorchCompileModel": NodeClass(
        "_for_testing", {"MODEL": "MODEL"}, {"model": _MODEL, "backend": _choice("inductor", "cudagraphs")}
    ),
    **dict.fromkeys(("EasyCache", "LazyCache"), NodeClass("advanced/debug/model", {"MODEL": "MODEL"}, _CACHE)),
    "CLIPTextEncode": NodeClass("conditioning", {"CONDITIONING": "CONDITIONING"}, {"text": _PROMPT, "clip": _CLIP}),
    "TextEncodeQwenImageEdit": NodeClass(
        "advanced/conditioning",
        {"CONDITIONING": "CONDITIONING"},
        {"clip": _CLIP, "prompt": _PROMPT},
        {"vae": _VAE, "image": _IMAGE},
    ),
    "TextEncodeQwenImageEditPlus": NodeClass(
        "advanced/conditioning",
        {"CONDITIONING": "CONDITIONING"},
        {"clip": _CLIP, "prompt": _PROMPT},
        {"vae": _VAE, "image1": _IMAGE, "image2": _IMAGE, "image3": _IMAGE},
    ),
    "ReferenceLatent": NodeClass(
        "advanced/conditioning/edit_models",
        {"CONDITIONING": "CONDITIONING"},
        {"conditioning": _CONDITIONING},
        {"latent": _LATENT},
    ),
    "FluxKontextMultiReferenceLatentMethod": NodeClass(
        "advanced/conditioning/flux",
        {"CONDITIONING": "CONDITIONING"},
        {"conditioning": _CONDITIONING, "reference_latents_method": _METHODS},
    ),
    "ConditioningZeroOut": NodeClass(
        "advanced/conditioning", {"CONDITIONING": "CONDITIONING"}, {"conditioning": _CONDITIONING}
    ),
    "LoadImage": NodeClass(
        "image", {"IMAGE": "IMAGE", "MASK": "MASK"}, {"image": Listed(PICTURES, {"image_upload": True})}
    ),
    "LoadImageOutput": NodeClass(
        "image", {"IMAGE": "IMAGE", "MASK": "MASK"}, {"image": Listed(PICTURES, {"image_upload": True})}
    ),
    "LoadImageMask": NodeClass(
        "mask",
        {"MASK": "MASK"},
        {"image": Listed(PICTURES, {"image_upload": True}), "channel": _choice("alpha", "red", "green", "blue")},
    ),
    "FluxKontextImageScale": NodeClass("advanced/conditioning/flux", {"IMAGE": "IMAGE"}, {"image": _IMAGE}),
    "ImageScale": NodeClass(
        "image/upscaling",
        {"IMAGE": "IMAGE"},
        {
            "image": _IMAGE,
            "upscale_method": _SCALING,
            "width": _whole(512, 0, _MOST_PX),
            "height": _whole(512, 0, _MOST_PX),
            "crop": _choice("disabled", "center"),
        },
    ),
    "ImageScaleBy": NodeClass(
        "image/upscaling",
        {"IMAGE": "IMAGE"},
        {"image": _IMAGE, "upscale_method": _SCALING, "scale_by": _real(1.0, 0.01, 8.0, 0.01)},
    ),
    "ImageScaleToTotalPixels": NodeClass(
        "image/upscaling",
        {"IMAGE": "IMAGE"},
        {"image": _IMAGE, "upscale_method": _SCALING, "megapixels": _real(1.0, 0.01, 16.0, 0.01)},
        {"resolution_steps": _whole(1, 1, 256)},
    ),
    "ImageScaleToMaxDimension": NodeClass(
        "image/upscaling",
        {"IMAGE": "IMAGE"},
        {"image": _IMAGE, "upscale_method": _SCALING, "largest_size": _whole(512, 0, _MOST_PX)},
    ),
    "ImageCrop": NodeClass(
        "image/transform",
        {"IMAGE": "IMAGE"},
        {
            "image": _IMAGE,
            **{name: _whole(512, 1, _MOST_PX) for name in ("width", "height")},
            **{name: _whole(0, 0, _MOST_PX) for name in ("x", "y")},
        },
    ),
    "ImageCompositeMasked": NodeClass(
        "image",
        {"IMAGE": "IMAGE"},
        {
            "destination": _IMAGE,
            "source": _IMAGE,
            **{name: _whole(0, 0, _MOST_PX) for name in ("x", "y")},
            "resize_source": _flag(default=False),
        },
        {"mask": _MASK},
    ),
    "GetImageSize": NodeClass("image", {"INT": "width", "INT ": "height", "INT  ": "batch_size"}, {"image": _IMAGE}),
    "GrowMask": NodeClass(
        "mask",
        {"MASK": "MASK"},
        {"mask": _MASK, "expand": _whole(0, -_MOST_PX, _MOST_PX), "tapered_corners": _flag(default=True)},
    ),
    "MaskToImage": NodeClass("mask", {"IMAGE": "IMAGE"}, {"mask": _MASK}),
    "ImageToMask": NodeClass(
        "mask", {"MASK": "MASK"}, {"image": _IMAGE, "channel": _choice("red", "green", "blue", "alpha")}
    ),
    "InvertMask": NodeClass("mask", {"MASK": "MASK"}, {"mask": _MASK}),
    "EmptyLatentImage": NodeClass(
        _LATENTS, {"LATENT": "LATENT"}, {"width": _SIDE, "height": _SIDE, "batch_size": _whole(1, 1, 64)}
    ),
    "EmptySD3LatentImage": NodeClass(
        "latent/sd3", {"LATENT": "LATENT"}, {"width": _SIDE, "height": _SIDE, "batch_size": _whole(1, 1, 64)}
    ),
    "VAEEncode": NodeClass(_LATENTS, {"LATENT": "LATENT"}, {"pixels": _IMAGE, "vae": _VAE}),
    "VAEEncodeTiled": NodeClass("_for_testing", {"LATENT": "LATENT"}, {"pixels": _IMAGE, "vae": _VAE, **_tiles(64)}),
    "InpaintModelConditioning": NodeClass(
        "conditioning/inpaint",
        {"CONDITIONING": "positive", "CONDITIONING ": "negative", "LATENT": "latent"},
        {
            **{"positive": _CONDITIONING, "negative": _CONDITIONING, "vae": _VAE, "pixels": _IMAGE, "mask": _MASK},
            "noise_mask": _flag(default=True),
        },
    ),
    "VAEEncodeForInpaint": NodeClass(
        "latent/inpaint",
        {"LATENT": "LATENT"},
        {"pixels": _IMAGE, "vae": _VAE, "mask": _MASK, "grow_mask_by": _whole(6, 0, 64)},
    ),
    "SetLatentNoiseMask": NodeClass("latent/inpaint", {"LATENT": "LATENT"}, {"samples": _LATENT, "mask": _MASK}),
    "RepeatLatentBatch": NodeClass(
        "latent/batch", {"LATENT": "LATENT"}, {"samples": _LATENT, "amount": _whole(1, 1, 64)}
    ),
    "VAEDecode": NodeClass(_LATENTS, {"IMAGE": "IMAGE"}, {"samples": _LATENT, "vae": _VAE}),
    "VAEDecodeTiled": NodeClass("_for_testing", {"IMAGE": "IMAGE"}, {"samples": _LATENT, "vae": _VAE, **_tiles(32)}),
    "KSampler": NodeClass(
        _SAMPLING,
        {"LATENT": "LATENT"},
        {
            "model": _MODEL,
            "seed": _SEED,
            "steps": _STEPS,
            "cfg": _CFG,
            "sampler_name": _SAMPLER,
            "scheduler": _SCHEDULER,
            "positive": _CONDITIONING,
            "negative": _CONDITIONING,
            "latent_image": _LATENT,
            "denoise": _DENOISE,
        },
    ),
    "KSamplerAdvanced": NodeClass(
        _SAMPLING,
        {"LATENT": "LATENT"},
        {
            **{"model": _MODEL, "add_noise": _choice("enable", "disable"), "noise_seed": _SEED, "steps": _STEPS},
            **{"cfg": _CFG, "sampler_name": _SAMPLER, "scheduler": _SCHEDULER},
            **{"positive": _CONDITIONING, "negative": _CONDITIONING, "latent_image": _LATENT},
            **{"start_at_step": _whole(0, 0, 10000), "end_at_step": _whole(10000, 0, 10000)},
            "return_with_leftover_noise": _choice("disable", "enable"),
        },
    ),
    "SamplerCustom": NodeClass(
        "sampling/custom_sampling",
        {"LATENT": "output", "LATENT ": "denoised_output"},
        {
            **{"model": _MODEL, "add_noise": _flag(default=True), "noise_seed": _SEED, "cfg": _CFG},
            **{"positive": _CONDITIONING, "negative": _CONDITIONING},
            **{"sampler": _link("SAMPLER"), "sigmas": _link("SIGMAS"), "latent_image": _LATENT},
        },
    ),
    "BasicGuider": NodeClass(
        "sampling/custom_sampling/guiders", {"GUIDER": "GUIDER"}, {"model": _MODEL, "conditioning": _CONDITIONING}
    ),
    "KSamplerSelect": NodeClass(
        "sampling/custom_sampling/samplers", {"SAMPLER": "SAMPLER"}, {"sampler_name": _SAMPLER}
    ),
    "BasicScheduler": NodeClass(
        "sampling/custom_sampling/schedulers",
        {"SIGMAS": "SIGMAS"},
        {"model": _MODEL, "scheduler": _SCHEDULER, "steps": _STEPS, "denoise": _DENOISE},
    ),
    "RandomNoise": NodeClass("sampling/custom_sampling/noise", {"NOISE": "NOISE"}, {"noise_seed": _SEED}),
    "CFGGuider": NodeClass("sampling/custom_sampling/guiders", {"GUIDER": "GUIDER"}, {**_GUIDED, "cfg": _CFG}),
    "SamplerCustomAdvanced": NodeClass(
        "sampling/custom_sampling",
        {"LATENT": "output", "LATENT ": "denoised_output"},
        {
            "noise": ("NOISE", {}),
            "guider": ("GUIDER", {}),
            "sampler": ("SAMPLER", {}),
            "sigmas": ("SIGMAS", {}),
            "latent_image": _LATENT,
        },
    ),
    "ImageUpscaleWithModel": NodeClass(
        "image/upscaling", {"IMAGE": "IMAGE"}, {"upscale_model": ("UPSCALE_MODEL", {}), "image": _IMAGE}
    ),
    "PrimitiveInt": NodeClass(
        _PRIMITIVE, {"INT": "INT"}, {"value": _whole(0, -(2**63) + 1, 2**63 - 1, control_after_generate=True)}
    ),
    "PrimitiveFloat": NodeClass(_PRIMITIVE, {"FLOAT": "FLOAT"}, {"value": _real(0.0, -(2**63), 2**63, 0.01)}),
    "PrimitiveString": NodeClass(_PRIMITIVE, {"STRING": "STRING"}, {"value": ("STRING", {"multiline": False})}),
    "PrimitiveStringMultiline": NodeClass(_PRIMITIVE, {"STRING": "STRING"}, {"value": _TEXT}),
    "PrimitiveBoolean": NodeClass(_PRIMITIVE, {"BOOLEAN": "BOOLEAN"}, {"value": _flag(default=False)}),
    "StringConcatenate": NodeClass(
        "utils/string",
        {"STRING": "STRING"},
        {"string_a": _TEXT, "string_b": _TEXT, "delimiter": ("STRING", {"default": "", "multiline": False})},
    ),
    "ComfySwitchNode": NodeClass(
        "logic",
        {"*": "output"},
        {"switch": _flag(default=False)},
        {"on_false": _link("*"), "on_true": _link("*")},
    ),
    "PreviewAny": NodeClass("utils", {}, {"source": _link("*")}, saves=True),
    "SaveImageAdvanced": NodeClass(
        "image", {}, {"images": _IMAGE, "filename_prefix": _PREFIX, "format": _choice("png")}, saves=True
    ),
    "SaveImage": NodeClass("image", {}, {"images": _IMAGE, "filename_prefix": _PREFIX}, saves=True),
    "SaveImageWebsocket": NodeClass("api/image", {}, {"images": _IMAGE}, saves=True),
    "PreviewImage": NodeClass("image", {}, {"images": _IMAGE}, saves=True),
}
"""The classes that clients are told of. A graph may have more, see ``qied_client.workflows.UNDERSTOOD``."""
