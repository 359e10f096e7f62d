"""The official workflows, and those that people make of them, come to the requests that they should."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from qied_client.workflows import WorkflowRequest, read_workflow, requests_of

from tests.workflows.canvases import BYPASSED, MUTED, Graph
from tests.workflows.official import (
    EDIT,
    LIGHTNING,
    PROMPT,
    api_edit,
    edit_subgraph,
    edit_workflow,
    instance,
    node,
    saving,
)

SEED = 677909188488042
SIZES = {"sofa.png": (1200, 800), "fur.png": (640, 640), "cat.png": (1000, 1000), "wide.png": (1920, 1080)}
LOADS = {"images": ["sofa.png", "fur.png"], "prompt": PROMPT}
TURBO = LIGHTNING.removesuffix(".safetensors")
FULL = {"negative_prompt": "", "steps": 40, "true_cfg_scale": 4, "seed": SEED, "size": "kontext"}
FEW = {"steps": 4, "true_cfg_scale": 1, "seed": SEED, "size": "kontext", "loras": [(TURBO, 1.0)]}
BLUE = {
    **{"prompt": "make it blue", "images": ["cat.png"], "negative_prompt": "blurry", "seed": 7, "steps": 20},
    **{"true_cfg_scale": 4.0, "size": "kontext"},
}


def picture(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def find(name: str) -> bytes:
    return picture(SIZES.get(name, (1024, 768)), "RGBA" if name.startswith("clear") else "RGB")


def asked(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What each save node asks for, less what every request has."""
    return [_less(request) for request in requests_of(read_workflow(document), find)]


def _less(request: WorkflowRequest) -> dict[str, Any]:
    facts = request.facts()
    for name, usual in (("count", 1), ("compat", "comfyui"), ("class_type", "SaveImage")):
        if facts.get(name) == usual:
            del facts[name]
    return {name: value for name, value in facts.items() if name not in ("node", "filename_prefix")}


def two_instances() -> dict[str, Any]:
    """One subgraph twice, each with values of its own, and without ``proxyWidgets`` as today's page writes it."""
    g = Graph()
    g.node(41, "LoadImage", ["sofa.png", "image"], gives="IMAGE MASK")
    host = ["", "unet.safetensors", "clip.safetensors", "vae.safetensors"]
    instance(g, 170, ["first", *host, True, LIGHTNING, 1], None)
    instance(g, 171, ["second", *host, False, LIGHTNING, 2], None)
    for number, save in ((170, 9), (171, 10)):
        g.link(41, 0, number, "image")
        saving(g, save)
        g.link(number, 0, save, "images")
    return g.document({EDIT: edit_subgraph()})


def by_roundabout_ways() -> dict[str, Any]:
    """Reroutes, a primitive, Get and Set, a bypassed LoRA, a muted preview, notes and values by name, version 1.0."""
    g = Graph()
    g.node(1, "UNETLoader", {"unet_name": "qwen_image_edit_2511_bf16.safetensors"}, gives="MODEL")
    g.node(2, "CLIPLoader", ["clip.safetensors", "qwen_image", "default"], gives="CLIP")
    g.node(3, "VAELoader", ["vae.safetensors"], gives="VAE")
    g.node(4, "LoadImage", ["cat.png", "image"], gives="IMAGE MASK")
    g.node(
        5,
        "LoraLoader",
        ["x.safetensors", 1, 1],
        takes={"model": "MODEL", "clip": "CLIP"},
        gives="MODEL CLIP",
        mode=BYPASSED,
    )
    g.node(6, "Reroute", [], takes={"": "*"}, gives="*")
    g.node(7, "SetNode", ["vae"], takes={"VAE": "VAE"}, gives="*")
    g.node(8, "GetNode", ["vae"], gives="VAE")
    g.node(9, "PrimitiveNode", [30, "fixed"], gives="INT")
    encode = {"clip": "CLIP", "vae": "VAE", "image1": "IMAGE", "prompt": "STRING"}
    g.node(10, "TextEncodeQwenImageEditPlus", ["make it blue"], takes=encode, gives="CONDITIONING", widgets=("prompt",))
    g.node(11, "TextEncodeQwenImageEditPlus", ["blurry"], takes=encode, gives="CONDITIONING", widgets=("prompt",))
    g.node(12, "VAEEncode", [], takes={"pixels": "IMAGE", "vae": "VAE"}, gives="LATENT")
    g.node(
        13,
        "KSampler",
        [7, "fixed", 20, 4.0, "euler", "simple", 1],
        takes={
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
            "steps": "INT",
        },
        gives="LATENT",
        widgets=("steps",),
    )
    g.node(14, "VAEDecode", [], takes={"samples": "LATENT", "vae": "VAE"}, gives="IMAGE")
    saving(g, 15)
    g.node(16, "PreviewImage", [], takes={"images": "IMAGE"}, mode=MUTED)
    g.node(17, "MarkdownNote", ["a note"])
    g.link(1, 0, 6, "")
    g.link(6, 0, 5, "model")
    g.link(2, 0, 5, "clip")
    g.link(3, 0, 7, "VAE")
    for number in (10, 11):
        g.link(5, 1, number, "clip")
        g.link(8, 0, number, "vae")
        g.link(4, 0, number, "image1")
    g.link(4, 0, 12, "pixels")
    g.link(8, 0, 12, "vae")
    g.link(5, 0, 13, "model")
    g.link(10, 0, 13, "positive")
    g.link(11, 0, 13, "negative")
    g.link(12, 0, 13, "latent_image")
    g.link(9, 0, 13, "steps")
    g.link(13, 0, 14, "samples")
    g.link(8, 0, 14, "vae")
    g.link(14, 0, 15, "images")
    g.link(14, 0, 16, "images")
    return g.document(version=1)


def custom_sampling() -> dict[str, Any]:
    return api_edit(
        n20=node("RandomNoise", noise_seed=7),
        n21=node("CFGGuider", model=["10", 0], positive=["7", 0], negative=["8", 0], cfg=4.0),
        n22=node("KSamplerSelect", sampler_name="euler"),
        n23=node("BasicScheduler", model=["10", 0], scheduler="simple", steps=20, denoise=1.0),
        n12=node(
            "SamplerCustomAdvanced",
            noise=["20", 0],
            guider=["21", 0],
            sampler=["22", 0],
            sigmas=["23", 0],
            latent_image=["6", 0],
        ),
    )


def from_text() -> dict[str, Any]:
    return api_edit(
        n4=None,
        n5=None,
        n10=None,
        n6=node("EmptySD3LatentImage", width=1328, height=800, batch_size=3),
        n7=node("CLIPTextEncode", clip=["2", 0], text="a cat"),
        n8=node("CLIPTextEncode", clip=["2", 0], text=""),
        n12={"model": ["9", 0], "cfg": 2.5},
    )


def own_nodes() -> dict[str, Any]:
    return {
        "1": node("LoadImage", image="cat.png"),
        "2": node("QiedServer", key="", address=""),
        "3": node("QiedLora", name="style", strength=0.5),
        "4": node("QiedLora", name="few", strength=1.0, loras=["3", 0]),
        "5": node("LoadImageMask", image="mask.png", channel="red"),
        "6": node(
            "QiedEdit",
            **{"prompt": "make it blue", "image1": ["1", 0], "mask": ["5", 0], "loras": ["4", 0], "server": ["2", 0]},
            **{"seed": 0, "steps": 8, "true_cfg_scale": 0.0, "preset": "draft", "negative_prompt": "", "width": 0},
            **{"height": 0, "size": "same", "align": False, "upscale": "2x"},
        ),
        "7": node("SaveImage", images=["6", 0], filename_prefix="qied"),
    }


def own_regions() -> dict[str, Any]:
    """Two regions on an edit of pictures that the daemon keeps, and a redraw of a loaded one."""
    return {
        "1": node("QiedPicture", picture="AB" * 32, mask_mode="opaque"),
        "2": node("QiedRegion", mask=["1", 1], strength=0.4, padding=32, feather=0, scale=0.0, steps=0),
        "3": node("QiedRegion", regions=["2", 0], x=10, y=20, width=30, height=40, strength=0.5, padding=0, steps=3),
        "4": node("QiedEdit", prompt="a", image1=["1", 0], redraw=["3", 0], seed=1, steps=4),
        "5": node("SaveImage", images=["4", 0], filename_prefix="x"),
        "6": node("LoadImage", image="cat.png"),
        "7": node("QiedRedraw", image=["6", 0], prompt="b", x=1, y=2, width=3, height=4, seed=2, steps=5, strength=1.0),
        "8": node("SaveImage", images=["7", 0], filename_prefix="y"),
    }


VARIANTS: dict[str, tuple[dict[str, Any] | Callable[[], dict[str, Any]], list[dict[str, Any]]]] = {
    "2511, fp8mixed, two pictures": (edit_workflow, [{**LOADS, **FULL}]),
    "2511, int8, one picture, the newer save node": (
        edit_workflow(("sofa.png",), unet="qwen_image_edit_2511_int8_convrot.safetensors", advanced=True),
        [{**LOADS, **FULL, "images": ["sofa.png"], "class_type": "SaveImageAdvanced"}],
    ),
    "2511, Lightning by the switch": (edit_workflow(turbo=True), [{**LOADS, **FEW}]),
    "2511, version 1.0 of the format": (edit_workflow(version=1), [{**LOADS, **FULL}]),
    "2511, three references": (
        edit_workflow(("wide.png", "fur.png", "cat.png")),
        [{**LOADS, **FULL, "images": ["wide.png", "fur.png", "cat.png"]}],
    ),
    "values of the instance, in the order of proxyWidgets": (
        edit_workflow(values=["night", "day", None, None, None, True, None, 5]),
        [{**LOADS, **FEW, "prompt": "night", "seed": 5}],
    ),
    "two instances with values of their own": (
        two_instances,
        [
            {**FEW, "prompt": "first", "images": ["sofa.png"], "seed": 1},
            {**FULL, "prompt": "second", "images": ["sofa.png"], "seed": 2},
        ],
    ),
    "2509": (
        edit_workflow(
            ("sofa.png",), unet="qwen_image_edit_2509_fp8_e4m3fn.safetensors", steps=20, shift=3, methods=False
        ),
        [{**LOADS, **FULL, "images": ["sofa.png"], "steps": 20, "compat": "comfyui,shift=3"}],
    ),
    "the API's format": (api_edit, [BLUE]),
    "the body of POST /prompt": ({"prompt": api_edit(), "client_id": "x"}, [BLUE]),
    "Lightning in a chain of LoRAs": (
        api_edit(
            n20=node(
                "LoraLoaderModelOnly", model=["10", 0], lora_name="few\\Lightning-4.safetensors", strength_model=1.0
            ),
            n21=node(
                "LoraLoader",
                model=["20", 0],
                clip=["2", 0],
                lora_name="style.safetensors",
                strength_model=0.6,
                strength_clip=0.6,
            ),
            n22=node("LoraLoaderModelOnly", model=["21", 0], lora_name="off.safetensors", strength_model=0.0),
            n12={"model": ["22", 0], "steps": 4, "cfg": 1.0},
        ),
        [
            {
                **BLUE,
                "negative_prompt": None,
                "steps": 4,
                "true_cfg_scale": 1.0,
                "loras": [("Lightning-4", 1.0), ("style", 0.6)],
            }
        ],
    ),
    "rgthree's list of LoRAs": (
        api_edit(
            n20={
                "class_type": "Power Lora Loader (rgthree)",
                "inputs": {
                    "model": ["10", 0],
                    "lora_1": {"on": True, "lora": "style.safetensors", "strength": 0.5},
                    "lora_2": {"on": False, "lora": "other.safetensors", "strength": 1},
                },
            },
            n12={"model": ["20", 0]},
        ),
        [{**BLUE, "loras": [("style", 0.5)]}],
    ),
    "GGUF and KSamplerAdvanced": (
        api_edit(
            n1=node("UnetLoaderGGUF", unet_name="qwen-image-edit-2511-Q4_K_M.gguf"),
            n12=node(
                "KSamplerAdvanced",
                **{"model": ["10", 0], "positive": ["7", 0], "negative": ["8", 0], "latent_image": ["6", 0]},
                **{"add_noise": "enable", "noise_seed": 9, "steps": 20, "cfg": 4.0, "sampler_name": "euler"},
                **{"scheduler": "simple", "start_at_step": 0, "end_at_step": 10000},
                return_with_leftover_noise="disable",
            ),
        ),
        [{**BLUE, "seed": 9}],
    ),
    "SamplerCustomAdvanced": (custom_sampling, [BLUE]),
    "reroutes, primitives, Get and Set, bypassed and muted nodes": (
        by_roundabout_ways,
        [
            {
                **BLUE,
                "steps": 30,
                "size": None,
                "width": 1008,
                "height": 1008,
                "compat": "comfyui,shift=1.15,cfg_norm=none",
            }
        ],
    ),
    "text to image, three at once": (
        from_text,
        [
            {
                **{
                    "prompt": "a cat",
                    "images": [],
                    "negative_prompt": "",
                    "seed": 7,
                    "steps": 20,
                    "true_cfg_scale": 2.5,
                },
                **{"width": 1328, "height": 800, "count": 3, "compat": "comfyui,cfg_norm=none"},
            }
        ],
    ),
    "a mask by the picture's transparency": (
        api_edit(
            n4={"image": "clear.png"},
            n20=node("SetLatentNoiseMask", samples=["6", 0], mask=["4", 1]),
            n12={"latent_image": ["20", 0]},
        ),
        [
            {
                **BLUE,
                "images": ["clear.png"],
                "mask": "clear.png",
                "mask_mode": "transparent",
            }
        ],
    ),
    "a mask of a file, for inpainting": (
        api_edit(
            n20=node("LoadImageMask", image="mask.png", channel="red"),
            n21=node(
                "InpaintModelConditioning",
                **{"positive": ["7", 0], "negative": ["8", 0], "vae": ["3", 0], "pixels": ["5", 0], "mask": ["20", 0]},
                noise_mask=True,
            ),
            n12={"positive": ["21", 0], "negative": ["21", 1], "latent_image": ["21", 2]},
        ),
        [{**BLUE, "mask": "mask.png", "mask_mode": "white"}],
    ),
    "denoise below 1": (
        api_edit(n12={"denoise": 0.5, "latent_image": ["6", 0]}),
        [
            {
                **BLUE,
                **{"canvas": "cat.png", "refine": 0.5},
            }
        ],
    ),
    "the last steps of KSamplerAdvanced, where a mask marks": (
        api_edit(
            n20=node("LoadImageMask", image="mask.png", channel="green"),
            n21=node("GrowMask", mask=["20", 0], expand=4, tapered_corners=False),
            n22=node("ImageScaleBy", image=["4", 0], upscale_method="lanczos", scale_by=0.5),
            n6={"pixels": ["22", 0]},
            n23=node("SetLatentNoiseMask", samples=["6", 0], mask=["21", 0]),
            n12=node(
                "KSamplerAdvanced",
                **{"model": ["10", 0], "positive": ["7", 0], "negative": ["8", 0], "latent_image": ["23", 0]},
                **{"add_noise": "enable", "noise_seed": 7, "steps": 20, "cfg": 4.0, "start_at_step": 15},
            ),
        ),
        [
            {
                **{**BLUE, "steps": 5, "size": None, "canvas": "cat.png"},
                "redraw": [
                    {
                        **{"strength": 0.25 * (1 - 1e-9), "steps": 5, "padding": 8192, "feather": 0},
                        **{"mask": "mask.png", "mask_mode": "white"},
                    }
                ],
            }
        ],
    ),
    "a second pass": (
        api_edit(
            n20=node(
                "KSampler",
                **{"model": ["10", 0], "positive": ["7", 0], "negative": ["8", 0], "latent_image": ["12", 0]},
                **{"seed": 8, "steps": 5, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 0.25},
            ),
            n13={"samples": ["20", 0]},
        ),
        [{**BLUE, "redraw": [{"strength": 0.25, "steps": 5, "padding": 0, "feather": 0}]}],
    ),
    "upscaled": (
        api_edit(
            n20=node("UpscaleModelLoader", model_name="4x-UltraSharp.pth"),
            n21=node("ImageUpscaleWithModel", upscale_model=["20", 0], image=["13", 0]),
            n14={"images": ["21", 0]},
        ),
        [{**BLUE, "upscale": "4x-UltraSharp"}],
    ),
    "only upscaled": (
        {
            "1": node("LoadImage", image="cat.png"),
            "2": node("UpscaleModelLoader", model_name="RealESRGAN_x4plus.safetensors"),
            "3": node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
            "4": node("SaveImage", images=["3", 0], filename_prefix="big"),
        },
        [{"prompt": "upscale", "images": ["cat.png"], "upscale": "RealESRGAN_x4plus", "task": "upscale", "compat": ""}],
    ),
    "a size by megapixels": (
        api_edit(n5=node("ImageScaleToTotalPixels", image=["4", 0], upscale_method="lanczos", megapixels=0.5)),
        [{**BLUE, "size": None, "width": 720, "height": 720}],
    ),
    "qied's regions and pictures": (
        own_regions,
        [
            {
                **{"prompt": "a", "images": [f"{'ab' * 32}.png"], "seed": 1, "steps": 4},
                "redraw": [
                    {"strength": 0.4, "padding": 32, "feather": 0, "mask": f"{'ab' * 32}.png", "mask_mode": "opaque"},
                    {"strength": 0.5, "padding": 0, "steps": 3, "box": (10, 20, 30, 40)},
                ],
            },
            {
                **{"prompt": "b", "images": ["cat.png"], "canvas": "cat.png", "seed": 2, "steps": 5},
                "redraw": [{"strength": 1.0, "box": (1, 2, 3, 4)}],
            },
        ],
    ),
    "qied's own nodes": (
        own_nodes,
        [
            {
                **{"prompt": "make it blue", "images": ["cat.png"], "seed": 0, "steps": 8, "preset": "draft"},
                **{"loras": [("style", 0.5), ("few", 1.0)], "mask": "mask.png", "mask_mode": "white", "upscale": "2x"},
                **{"size": "same", "align": False, "compat": ""},
            }
        ],
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_workflow_asks_for(name: str) -> None:
    document, expected = VARIANTS[name]
    found = asked(document() if callable(document) else document)
    wanted = [{key: value for key, value in each.items() if value is not None} for each in expected]
    assert found == [{k: v for k, v in each.items() if not (k == "compat" and v == "")} for each in wanted]
