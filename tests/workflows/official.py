"""The official workflows by their structure: classes, links and widgets of ComfyUI's templates for Qwen's models."""

from __future__ import annotations

from typing import Any

from tests.workflows.canvases import Graph

EDIT = "cdb2cf24-0000-4000-8000-000000000001"
"""Id of the subgraph."""
LIGHTNING = "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors"
PROMPT = "Change the leather of the sofa to the fur in image 2."

SIDES = (
    *(("image", "IMAGE", "image1"), ("image2", "IMAGE", ""), ("image3", "IMAGE", "")),
    *(("prompt", "STRING", "positive_prompt"), ("prompt_1", "STRING", "negative_prompt")),
    *((f"{name}_1", "COMBO", name) for name in ("unet_name", "clip_name", "vae_name")),
    *(("value", "BOOLEAN", "enable_turbo_mode"), ("lora_name", "COMBO", ""), ("seed", "INT", "")),
)
"""Inputs of the subgraph: name, type and label."""


def edit_subgraph(
    *,
    unet: str = "qwen_image_edit_2511_fp8mixed.safetensors",
    lora: str = LIGHTNING,
    prompt: str = PROMPT,
    turbo: bool = False,
    seed: int = 677909188488042,
    steps: int = 40,
    scale: float = 4,
    shift: float = 3.1,
    methods: bool = True,
) -> Graph:
    """The subgraph of the templates for 2511; ``methods``: with FluxKontextMultiReferenceLatentMethod."""
    g = Graph("Image Edit (Qwen-Image 2511)")
    names = [name for name, _, _ in SIDES]
    for name, of, label in SIDES:
        g.takes(name, of, label)
    g.gives("IMAGE", "IMAGE")
    encode = {"clip": "CLIP", "vae": "VAE", "image1": "IMAGE", "image2": "IMAGE", "image3": "IMAGE", "prompt": "STRING"}
    switch = {"on_false": "*", "on_true": "*", "switch": "BOOLEAN"}
    g.node(145, "ModelSamplingAuraFlow", [shift], takes={"model": "MODEL"}, gives="MODEL")
    g.node(
        146,
        "VAELoader",
        ["qwen_image_vae.safetensors"],
        takes={"vae_name": "COMBO"},
        gives="VAE",
        widgets=("vae_name",),
    )
    if methods:
        for number in (147, 148):
            g.node(
                number,
                "FluxKontextMultiReferenceLatentMethod",
                ["index_timestep_zero"],
                takes={"conditioning": "CONDITIONING"},
                gives="CONDITIONING",
            )
    g.node(149, "TextEncodeQwenImageEditPlus", [""], takes=encode, gives="CONDITIONING", widgets=("prompt",))
    g.node(150, "Note", ["read me"])
    g.node(
        151,
        "TextEncodeQwenImageEditPlus",
        [prompt],
        takes=encode,
        gives="CONDITIONING",
        widgets=("prompt",),
        title="TextEncodeQwenImageEditPlus (Positive)",
    )
    g.node(152, "CFGNorm", [1, False], takes={"model": "MODEL"}, gives="MODEL")
    g.node(
        153,
        "LoraLoaderModelOnly",
        [lora, 1],
        takes={"model": "MODEL", "lora_name": "COMBO"},
        gives="MODEL",
        widgets=("lora_name",),
    )
    g.node(154, "PrimitiveFloat", [scale], gives="FLOAT", title="CFG")
    g.node(155, "PrimitiveFloat", [1], gives="FLOAT", title="CFG")
    g.node(156, "VAEEncode", [], takes={"pixels": "IMAGE", "vae": "VAE"}, gives="LATENT")
    g.node(161, "UNETLoader", [unet, "default"], takes={"unet_name": "COMBO"}, gives="MODEL", widgets=("unet_name",))
    g.node(
        162,
        "CLIPLoader",
        ["qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image", "default"],
        takes={"clip_name": "COMBO"},
        gives="CLIP",
        widgets=("clip_name",),
    )
    for number, title in ((163, "Switch (Model)"), (164, "Switch (CFG)"), (167, "Switch (Steps)")):
        g.node(number, "ComfySwitchNode", [False], takes=switch, gives="*", widgets=("switch",), title=title)
    g.node(165, "PrimitiveInt", [4, "fixed"], gives="INT", title="Steps")
    g.node(166, "PrimitiveInt", [steps, "fixed"], gives="INT", title="Steps")
    g.node(168, "PrimitiveBoolean", [turbo], takes={"value": "BOOLEAN"}, gives="BOOLEAN", widgets=("value",))
    g.node(
        169,
        "KSampler",
        [seed, "randomize", 40, 3, "euler", "simple", 1],
        takes={
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
            "seed": "INT",
            "steps": "INT",
            "cfg": "FLOAT",
        },
        gives="LATENT",
        widgets=("seed", "steps", "cfg"),
    )
    g.node(158, "VAEDecode", [], takes={"samples": "LATENT", "vae": "VAE"}, gives="IMAGE")
    g.node(160, "FluxKontextImageScale", [], takes={"image": "IMAGE"}, gives="IMAGE")
    _connect(g, dict(zip(names, range(len(names)), strict=True)), methods)
    return g


def _connect(g: Graph, sides: dict[str, int], methods: bool) -> None:
    g.link(-10, sides["image"], 160, "image")
    for number, text in ((151, sides["prompt"]), (149, sides["prompt_1"])):
        g.link(162, 0, number, "clip")
        g.link(146, 0, number, "vae")
        g.link(160, 0, number, "image1")
        g.link(-10, sides["image2"], number, "image2")
        g.link(-10, sides["image3"], number, "image3")
        g.link(-10, text, number, "prompt")
    for number, method, name in ((151, 148, "positive"), (149, 147, "negative")):
        if methods:
            g.link(number, 0, method, "conditioning")
        g.link(method if methods else number, 0, 169, name)
    g.link(-10, sides["unet_name_1"], 161, "unet_name")
    g.link(-10, sides["clip_name_1"], 162, "clip_name")
    g.link(-10, sides["vae_name_1"], 146, "vae_name")
    g.link(-10, sides["lora_name"], 153, "lora_name")
    g.link(-10, sides["value"], 168, "value")
    g.link(-10, sides["seed"], 169, "seed")
    g.link(161, 0, 145, "model")
    g.link(145, 0, 152, "model")
    g.link(152, 0, 153, "model")
    g.link(152, 0, 163, "on_false")
    g.link(153, 0, 163, "on_true")
    g.link(154, 0, 164, "on_false")
    g.link(155, 0, 164, "on_true")
    g.link(166, 0, 167, "on_false")
    g.link(165, 0, 167, "on_true")
    for number in (163, 164, 167):
        g.link(168, 0, number, "switch")
    g.link(163, 0, 169, "model")
    g.link(167, 0, 169, "steps")
    g.link(164, 0, 169, "cfg")
    g.link(160, 0, 156, "pixels")
    g.link(146, 0, 156, "vae")
    g.link(156, 0, 169, "latent_image")
    g.link(169, 0, 158, "samples")
    g.link(146, 0, 158, "vae")
    g.link(158, 0, -20, "IMAGE")


PROXIES = [
    *(["151", "prompt"], ["149", "prompt"], ["161", "unet_name"], ["162", "clip_name"], ["146", "vae_name"]),
    *(["168", "value"], ["153", "lora_name"], ["169", "seed"], ["169", "control_after_generate"]),
]


def edit_workflow(
    pictures: tuple[str, ...] = ("sofa.png", "fur.png"),
    *,
    values: Any = (),
    proxies: list[list[str]] | None = PROXIES,
    advanced: bool = False,
    version: float = 0.4,
    **subgraph: Any,
) -> dict[str, Any]:
    """A template's file: pictures into the subgraph, and a save node. ``values`` are those of the instance."""
    g = Graph()
    g.node(82, "MarkdownNote", ["Models"])
    for number, name in zip((41, 83, 84), pictures, strict=False):
        g.node(number, "LoadImage", [name, "image"], gives="IMAGE MASK")
    instance(g, 170, values, proxies)
    for number, name in zip((41, 83, 84), ("image", "image2", "image3")[: len(pictures)], strict=False):
        g.link(number, 0, 170, name)
    saving(g, 9, advanced)
    g.link(170, 0, 9, "images")
    return g.document({EDIT: edit_subgraph(**subgraph)}, version=version)


def instance(g: Graph, number: int, values: Any = (), proxies: list[list[str]] | None = PROXIES, **more: Any) -> None:
    """Add an instance of the subgraph, with the inputs that the page writes."""
    takes = dict.fromkeys(("image", "image2", "image3"), "IMAGE")
    widgets = ("prompt", "prompt_1", "unet_name_1", "clip_name_1", "vae_name_1", "value")
    properties = {} if proxies is None else {"proxyWidgets": proxies}
    g.node(
        number,
        EDIT,
        values,
        takes={**takes, **dict.fromkeys(widgets, "STRING")},
        gives="IMAGE",
        widgets=widgets,
        **properties,
        **more,
    )


def saving(g: Graph, number: int, advanced: bool = False, prefix: str = "Qwen_Edit_2511") -> None:
    """Add a save node."""
    kind, values = ("SaveImageAdvanced", [prefix, "png", "8-bit", "sRGB"]) if advanced else ("SaveImage", [prefix])
    g.node(number, kind, values, takes={"images": "IMAGE"})


def api_edit(**changes: dict[str, Any] | None) -> dict[str, Any]:
    """An edit in the format of the API, of plain nodes; ``n12={...}`` merges inputs into a node, None removes it."""
    graph: dict[str, Any] = {
        "1": _node("UNETLoader", unet_name="qwen_image_edit_2511_bf16.safetensors", weight_dtype="default"),
        "2": _node("CLIPLoader", clip_name="qwen_2.5_vl_7b.safetensors", type="qwen_image", device="default"),
        "3": _node("VAELoader", vae_name="qwen_image_vae.safetensors"),
        "4": _node("LoadImage", image="cat.png"),
        "5": _node("FluxKontextImageScale", image=["4", 0]),
        "6": _node("VAEEncode", pixels=["5", 0], vae=["3", 0]),
        "7": _node("TextEncodeQwenImageEditPlus", clip=["2", 0], vae=["3", 0], image1=["5", 0], prompt="make it blue"),
        "8": _node("TextEncodeQwenImageEditPlus", clip=["2", 0], vae=["3", 0], image1=["5", 0], prompt="blurry"),
        "9": _node("ModelSamplingAuraFlow", model=["1", 0], shift=3.1),
        "10": _node("CFGNorm", model=["9", 0], strength=1.0),
        "12": _node(
            "KSampler",
            model=["10", 0],
            positive=["7", 0],
            negative=["8", 0],
            latent_image=["6", 0],
            seed=7,
            steps=20,
            cfg=4.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "13": _node("VAEDecode", samples=["12", 0], vae=["3", 0]),
        "14": _node("SaveImage", images=["13", 0], filename_prefix="qied"),
    }
    for name, inputs in changes.items():
        number = name.removeprefix("n")
        if inputs is None:
            del graph[number]
        elif "class_type" in inputs:
            graph[number] = inputs
        else:
            graph[number]["inputs"].update(inputs)
    return graph


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


node = _node
