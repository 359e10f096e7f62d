"""Files of the built-in model in every layout and precision that people have, and what their numbers mean.

Each writer returns the weights that its file stands for, in FP64 by the names of the model's own classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qied.resources import builtin_model_folder

E4M3 = torch.float8_e4m3fn
MARKER = "__index_timestep_zero__"
MODULATION = ("img_mod.1", "txt_mod.1")
FLAVOURS = (
    *("bf16", "fp16", "fp32", "fp8_plain", "fp8_scaled", "fp8_scaled_inputs"),
    *("fp8_comfy", "fp8_comfy_header", "fp8_mixed", "fp8_lightx2v"),
)
"""How a file keeps the weights of its linears. ``fp8_mixed``: as ComfyUI, but every third linear in BF16."""
INT8_FLAVOURS = ("int8", "int8_convrot", "int8_convrot_small", "int8_convrot_header", "int8_mixed")
"""Of INT8: as it is; rotated, in groups of 256 and of 16; told in the header; every third linear in BF16 or FP8."""
BLOCK_SCALED_FLAVOURS = ("nvfp4", "nvfp4_header", "mxfp8", "nvfp4_mixed")
"""With a scale for each few numbers. ``nvfp4_mixed``: every third linear in BF16, and every third in MXFP8."""
PRECISION = {
    **{name: name for name in ("bf16", "fp16", "fp32", "fp8_plain", "fp8_scaled", "fp8_comfy", "fp8_lightx2v")},
    "fp8_scaled_inputs": "fp8_scaled",
    "fp8_comfy_header": "fp8_comfy",
    "fp8_mixed": "fp8_comfy",
}
"""What `qied inspect` calls each."""
_DENSE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

Tensors = dict[str, Tensor]
Change = Callable[[dict[str, Tensor]], object]


def stored(part: str) -> Tensors:
    """The tensors of a part of the built-in model as they ship, BF16, by their names in its files."""
    found: Tensors = {}
    for file in sorted((builtin_model_folder() / part).glob("*.safetensors")):
        found |= load_file(file)
    return found


def _is_linear(name: str, tensor: Tensor) -> bool:
    inside = "transformer_blocks." in name or ".layers." in name or "visual.blocks." in name
    return inside and name.endswith(".weight") and tensor.ndim == 2


def in_flavour(tensors: Mapping[str, Tensor], flavour: str) -> tuple[Tensors, dict[str, str], dict[str, Tensor]]:
    """Tensors of a file, the texts in its header, and the FP64 weights that they stand for, by stored names."""
    kept: Tensors = {}
    texts: dict[str, str] = {}
    meant: dict[str, Tensor] = {}
    layers: dict[str, Any] = {}
    for number, (name, tensor) in enumerate(tensors.items()):
        layer = name.removesuffix(".weight")
        if flavour in _DENSE:
            kept[name] = tensor.to(_DENSE[flavour])
        elif flavour == "fp8_plain":
            kept[name] = tensor.float().clamp(-448, 448).to(E4M3)
        elif not _is_linear(name, tensor) or (flavour.endswith("_mixed") and number % 3 == 0):
            kept[name] = tensor
        elif flavour in BLOCK_SCALED_FLAVOURS:
            kind = "mxfp8" if flavour == "mxfp8" or (flavour == "nvfp4_mixed" and number % 3 == 1) else "nvfp4"
            meant[name] = put_block_scaled(layer, tensor, kind, kept)
            if flavour == "nvfp4_header":
                layers[layer] = {"format": kind}
            else:
                kept[f"{layer}.comfy_quant"] = _marker({"format": kind})
        elif flavour.startswith("int8") and not (flavour == "int8_mixed" and number % 3 == 1):
            _put_int8(name, tensor, flavour, kept, meant, layers)
        else:
            by_row = flavour == "fp8_lightx2v"
            wide = tensor.float()
            largest = wide.abs().amax(1, keepdim=True) if by_row else wide.abs().amax()
            scale = (largest / 448).clamp(min=1e-12)
            kept[name] = (wide / scale).to(E4M3)
            legacy = flavour.startswith("fp8_scaled")
            kept[f"{layer}.{'scale_weight' if legacy else 'weight_scale'}"] = scale
            if flavour == "fp8_scaled_inputs":
                kept[f"{layer}.scale_input"] = torch.tensor(1.0)
            if flavour in ("fp8_comfy", "fp8_mixed", "int8_mixed"):
                kept[f"{layer}.comfy_quant"] = _marker({"format": "float8_e4m3fn"})
                kept[f"{layer}.input_scale"] = torch.tensor(0.5)
            layers[layer] = {"format": "float8_e4m3fn"}
            meant[name] = kept[name].double() * scale.double()
        meant.setdefault(name, kept[name].double())
    if flavour.endswith("_header"):
        texts["_quantization_metadata"] = json.dumps({"format_version": "1.0", "layers": layers})
    if flavour.startswith("fp8_scaled"):
        kept["scaled_fp8"] = torch.zeros(2 if flavour.endswith("inputs") else 0).to(E4M3)
    return kept, texts, meant


def _marker(content: Mapping[str, Any]) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64)


def put_block_scaled(layer: str, tensor: Tensor, kind: str, kept: Tensors) -> Tensor:
    """Put a linear as ComfyUI keeps it in NVFP4 or MXFP8; returns what it means, FP64."""
    group = 16 if kind == "nvfp4" else 32
    wide = tensor.double().view(len(tensor), -1, group)
    largest = wide.abs().amax(2)
    if kind == "nvfp4":
        whole = (largest.max() / (6 * 448)).float()
        scales = (largest / 6 / whole.double()).to(E4M3)
        factors = scales.double() * whole.double()
        units = wide / factors.clamp(min=1e-30).unsqueeze(2)
        codes = torch.bucketize(units.abs(), (E2M1[1:8] + E2M1[:7]) / 2) + 8 * (units < 0)
        pairs = codes.view(len(tensor), -1, 2).to(torch.uint8)
        kept[f"{layer}.weight"] = pairs[:, :, 0] << 4 | pairs[:, :, 1]
        kept[f"{layer}.weight_scale_2"] = whole
        numbers = E2M1[codes]
    else:
        exponents = (largest / 448).clamp(min=2.0**-127).log2().ceil()
        scales, factors = (exponents + 127).to(torch.uint8), 2.0**exponents
        kept[f"{layer}.weight"] = (wide / factors.unsqueeze(2)).to(E4M3).view(tensor.shape)
        numbers = kept[f"{layer}.weight"].double().view(wide.shape)
    kept[f"{layer}.weight_scale"] = in_tiles(scales)
    return (numbers * factors.unsqueeze(2)).view(tensor.shape)


def in_tiles(scales: Tensor) -> Tensor:
    """Scales [rows, n] as cuBLAS wants them: in tiles of 128 x 4, row r in line r % 32 at 4 (r // 32), filled up."""
    rows, count = scales.shape
    high, wide = -(-rows // 128), -(-count // 4)
    flat = torch.zeros(high * wide * 512, dtype=torch.uint8)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(count), indexing="ij")
    inside = row % 128
    tile = (row // 128) * wide + column // 4
    flat[(tile * 512 + inside % 32 * 16 + inside // 32 * 4 + column % 4).flatten()] = scales.view(torch.uint8).flatten()
    return flat.view(scales.dtype).view(high * 128, wide * 4)


def convrot(group: int) -> Tensor:
    """ComfyUI's rotation of a group: the normalised Kronecker power of H4 / 2, FP64 [group, group]."""
    four = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]).double() / 2
    matrix = four
    while len(matrix) < group:
        matrix = torch.kron(matrix, four)
    return matrix


def rotated(weight: Tensor, group: int) -> Tensor:
    """FP64 [rows, inputs], each group of whose inputs is rotated; twice is not at all."""
    return (weight.double().view(len(weight), -1, group) @ convrot(group)).view(weight.shape)


def _put_int8(
    name: str, tensor: Tensor, flavour: str, kept: Tensors, meant: dict[str, Tensor], layers: dict[str, Any]
) -> None:
    """Put a linear as ComfyUI keeps it in INT8, and what it means."""
    layer = name.removesuffix(".weight")
    group = 0 if flavour == "int8" else 16 if flavour == "int8_convrot_small" else 256
    wide = rotated(tensor, group) if group else tensor.double()
    scale = (wide.abs().amax(1, keepdim=True) / 127).float()
    kept[name] = (wide / scale).round().clamp(-127, 127).to(torch.int8)
    kept[f"{layer}.weight_scale"] = scale
    marker: dict[str, Any] = {"format": "int8_tensorwise"}
    if group:
        marker |= {"convrot": True, "convrot_groupsize": group}
    if flavour == "int8_convrot_header":
        layers[layer] = marker
    else:
        kept[f"{layer}.comfy_quant"] = _marker(marker)
    whole = kept[name].double() * scale.double()
    meant[name] = rotated(whole, group) if group else whole


def write_transformer(
    path: Path,
    flavour: str = "bf16",
    prefix: str = "",
    *,
    marked: bool = True,
    change: Change = lambda _: None,
    texts: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Write a transformer's single file; ``change`` may alter its tensors, by their names without the prefix."""
    kept, own_texts, meant = in_flavour(stored("transformer"), flavour)
    if marked:
        kept[MARKER] = torch.zeros(0)
    change(kept)
    save(path, {prefix + name: tensor for name, tensor in kept.items()}, {**own_texts, **(texts or {})})
    return meant


def write_text_encoder(path: Path, flavour: str = "bf16", *, old_names: bool = True, head: bool = True) -> Tensors:
    """Write a text encoder's single file, with the language head that nobody needs."""
    kept, texts, meant = in_flavour(stored("text_encoder"), flavour)

    def named(name: str) -> str:
        if not old_names:
            return name
        return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")

    if head:
        kept["lm_head.weight"] = torch.zeros(8, 8, dtype=torch.bfloat16)
    else:
        kept = {name: tensor for name, tensor in kept.items() if not name.startswith("lm_head")}
    save(path, {named(name): tensor for name, tensor in kept.items()}, texts)
    names = {name: name.removeprefix("model.") for name in meant if not name.startswith("lm_head")}
    return {new: meant[old] for old, new in names.items()}


def write_vae(path: Path, flavour: str = "bf16", *, wan: bool = True) -> Tensors:
    """Write a VAE's single file, with Wan's names or diffusers'."""
    tensors = {name: tensor.to(_DENSE[flavour]) for name, tensor in stored("vae").items()}
    save(path, {wan_name(name) if wan else name: tensor for name, tensor in tensors.items()}, {})
    return {name: tensor.double() for name, tensor in tensors.items()}


def save(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write a safetensors file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(texts))


def wan_name(name: str) -> str:
    """Wan 2.1's name of a VAE's tensor: the way back from diffusers'."""
    head, _, rest = name.partition(".")
    if head in ("quant_conv", "post_quant_conv"):
        return f"{'conv1' if head == 'quant_conv' else 'conv2'}.{rest}"
    parts = rest.split(".")
    if parts[0] == "conv_in":
        return ".".join([head, "conv1", *parts[1:]])
    if parts[0] in ("norm_out", "conv_out"):
        return ".".join([head, "head", "0" if parts[0] == "norm_out" else "2", *parts[1:]])
    if parts[0] == "mid_block":
        place = "1" if parts[1] == "attentions" else str(2 * int(parts[2]))
        return ".".join([head, "middle", place, *_wan_residual(parts[3:])])
    if parts[0] == "down_blocks":
        return ".".join([head, "downsamples", parts[1], *_wan_residual(parts[2:])])
    number = 4 * int(parts[1]) + (3 if parts[2] == "upsamplers" else int(parts[3]))
    return ".".join([head, "upsamples", str(number), *_wan_residual(parts[4:])])


def _wan_residual(parts: list[str]) -> list[str]:
    places = {"norm1": "0", "conv1": "2", "norm2": "3", "conv2": "6"}
    if parts[0] in places:
        return ["residual", places[parts[0]], *parts[1:]]
    return ["shortcut", *parts[1:]] if parts[0] == "conv_shortcut" else parts


def comfyui(root: Path, flavour: str = "bf16", encoder: str = "bf16", **transformer: Any) -> Path:
    """A ComfyUI folder with the built-in model as single files; returns the path of the transformer."""
    models = root / "models"
    path = models / "diffusion_models" / f"small_edit_{flavour}.safetensors"
    write_transformer(path, flavour, **transformer)
    write_text_encoder(models / "text_encoders" / f"small_encoder_{encoder}.safetensors", encoder)
    write_vae(models / "vae" / "small_vae.safetensors")
    return path
