"""The built-in model as GGUF files: transformers as their makers write them, text encoders as llama.cpp cuts them.

Each writer returns the weights that its file stands for, FP32 by the names of the model's own classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from tests.checkpoints.files import MARKER, stored, write_vae
from tests.weights.gguf_files import MADE_BY_THE_PACKAGE, meant, quantisation, random_blocks, write_gguf
from tools.gguf_quantise import quantise_blocks

Arrays = dict[str, np.ndarray]
Typed = dict[str, tuple[str, np.ndarray]]
LAYERS = 3
_SMALLEST = {"IQ4_XS": 1e-5, "IQ4_NL": 2e-4}
"""Types that are slow to fit and to expand, and the largest scale with which their numbers are under 0.04."""


def _numbers(part: str) -> Arrays:
    return {name: tensor.float().numpy() for name, tensor in stored(part).items()}


def typed(arrays: Mapping[str, np.ndarray], kind: str) -> tuple[Typed, dict[str, Tensor]]:
    """Matrices of the layers in ``kind`` where their rows can be cut into its blocks, others in BF16, the rest in FP32.

    Several kinds, with blanks between them, take turns: each matrix is of the first from its turn on that it can have.
    Types that the package cannot make are made by a tool of ours. Files of a type whose scales take seconds to fit are
    random blocks of numbers as small as weights are: what tests of one type compare is what the file stands for.
    """
    kept: Typed = {}
    found: dict[str, Tensor] = {}
    kinds = kind.split()
    for number, (name, array) in enumerate(arrays.items()):
        turns = [_type_of(name, array, kinds[(number + turn) % len(kinds)]) for turn in range(len(kinds))]
        one = next((turn for turn in turns if turn != "BF16"), turns[0])
        if one in ("F32", "F16"):
            data = array.astype(np.float32 if one == "F32" else np.float16)
        elif one == "BF16" or one in MADE_BY_THE_PACKAGE:
            data = gguf.quantize(array, quantisation(one))
        elif one in _SMALLEST and len(kinds) == 1:
            data = random_blocks(one, *array.shape, np.random.default_rng(number), _SMALLEST[one])
        else:
            data = _quantised(array.tobytes(), array.shape, one)
        kept[name] = (one, data)
        numbers = _expanded(one, data.tobytes(), data.shape) if one in _SMALLEST else meant(one, data)
        found[name] = torch.from_numpy(numbers.astype(np.float32).copy()).view(array.shape)
    return kept, found


@lru_cache(maxsize=1024)
def _quantised(data: bytes, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A matrix in blocks. Most files have the same weights, and fitting the scales of one takes tenths of a second."""
    return quantise_blocks(torch.frombuffer(bytearray(data), dtype=torch.float32).view(shape), kind).numpy()


@lru_cache(maxsize=1024)
def _expanded(kind: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """What the package takes rows of blocks for, which of some types takes it seconds for a model."""
    return meant(kind, np.frombuffer(data, np.uint8).reshape(shape))


def _type_of(name: str, array: np.ndarray, kind: str) -> str:
    if array.ndim != 2:
        return kind if array.ndim > 2 and kind in ("F16", "BF16") else "F32"
    numbers = gguf.GGML_QUANT_SIZES[quantisation(kind)][0]
    inside = "blocks." in name or "blk." in name or "layers." in name or name.startswith("token_embd")
    return kind if inside and array.shape[1] % numbers == 0 else "BF16"


def write_transformer_gguf(
    path: Path, kind: str = "Q8_0", *, prefix: str = "", marked: bool = False
) -> dict[str, Tensor]:
    """Write a transformer with diffusers' names, as most makers do."""
    tensors, found = typed(_numbers("transformer"), kind)
    if marked:
        tensors[MARKER] = ("F32", np.zeros(0, np.float32))
    write_gguf(path, {prefix + name: each for name, each in tensors.items()})
    return found


def write_vae_gguf(path: Path, *, folded: bool) -> dict[str, Tensor]:
    """Write a VAE: its convolutions with all dimensions, or ``folded`` into ggml's four and noted as they were."""
    tensors: Typed = {}
    noted: dict[str, list[object]] = {}
    numbers = _numbers("vae")
    for name, array in numbers.items():
        if folded and array.ndim > 4:
            noted[f"comfy.gguf.orig_shape.{name}"] = list(array.shape)
        tensors[name] = ("F32", array.reshape(-1, *array.shape[2:]) if folded and array.ndim > 4 else array)
    write_gguf(path, tensors, "pig", noted)
    return {name: torch.from_numpy(array) for name, array in numbers.items()}


def write_encoder_gguf(
    folder: Path, kind: str = "Q8_0", *, name: str = "Qwen2.5-VL-7B-Instruct", tower: str | None = "BF16"
) -> tuple[Path, dict[str, Tensor]]:
    """Write a text encoder's language model and, unless ``tower`` is None, its vision tower in that type."""
    whole = _numbers("text_encoder")
    cut: Arrays = dict(_language(whole))
    tensors, found = typed(cut, kind)
    path = write_gguf(folder / f"{name}-{kind}.gguf", tensors, "qwen2vl", {"tokenizer.ggml.tokens": ["a", "b"]})
    back = {llama: model for model, llama in _language_names(whole)}
    result = {back[name]: tensor for name, tensor in found.items() if name in back}
    if tower is not None:
        result |= write_tower(folder / f"mmproj-{tower}.gguf", tower)
    return path, result


def write_tower(path: Path, kind: str) -> dict[str, Tensor]:
    """Write a vision tower, Q, K and V and the frames of its patches cut as llama.cpp's converter cuts them."""
    pieces: Arrays = {}
    for name, array in _numbers("text_encoder").items():
        if not (name := name.removeprefix("model.")).startswith("visual."):
            continue
        parts = name.split(".")
        if ".attn.qkv." in name:
            for letter, piece in zip("qkv", np.split(array, 3), strict=True):
                pieces[f"v.blk.{parts[2]}.attn_{letter}.{parts[-1]}"] = piece
        elif name == "visual.patch_embed.proj.weight":
            pieces["v.patch_embd.weight"], pieces["v.patch_embd.weight.1"] = array[:, :, 0], array[:, :, 1]
        else:
            mapped = _MAP.get_name(name, ("." + parts[-1],))
            assert mapped is not None, name
            pieces[mapped] = array
    tensors, found = typed(pieces, kind)
    write_gguf(path, tensors, "clip")
    result: dict[str, Tensor] = {}
    for name in _numbers("text_encoder"):
        if not (name := name.removeprefix("model.")).startswith("visual."):
            continue
        parts = name.split(".")
        if ".attn.qkv." in name:
            result[name] = torch.cat([found[f"v.blk.{parts[2]}.attn_{letter}.{parts[-1]}"] for letter in "qkv"])
        elif name == "visual.patch_embed.proj.weight":
            result[name] = torch.stack([found["v.patch_embd.weight"], found["v.patch_embd.weight.1"]], dim=2)
        else:
            result[name] = found[_MAP.get_name(name, ("." + parts[-1],))]
    return result


_MAP = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, 32)
_TEXT_MAP = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2VL, 28)


def _language_names(whole: Arrays) -> Iterator[tuple[str, str]]:
    """(Name in the model, llama.cpp's name) of the language model's tensors."""
    for name in whole:
        model = name.removeprefix("model.")
        if model.startswith("language_model."):
            yield model, language_name(model)


def language_name(model: str) -> str:
    """llama.cpp's name of a language model's tensor, by the package's own table."""
    mapped = _TEXT_MAP.get_name("model." + model.removeprefix("language_model."), ("." + model.rpartition(".")[2],))
    assert mapped is not None, model
    return mapped


def _language(whole: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    for model, llama in _language_names(whole):
        yield llama, whole[f"model.{model}" if f"model.{model}" in whole else model]
    yield "output.weight", np.zeros((64, 128), np.float32)


def comfyui_gguf(root: Path, kind: str = "Q8_0", encoder: str = "Q8_0", **transformer: object) -> Path:
    """A ComfyUI folder with transformer and text encoder as GGUF files; returns the path of the transformer."""
    models = root / "models"
    path = models / "unet" / f"qwen-image-edit-2511-{kind}.gguf"
    write_transformer_gguf(path, kind, **transformer)  # type: ignore[arg-type]
    write_encoder_gguf(models / "text_encoders", encoder)
    write_vae(models / "vae" / "small_vae.safetensors")
    return path
