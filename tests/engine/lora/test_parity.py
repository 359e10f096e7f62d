"""LoRAs against diffusers' own model with their products merged into its weights, and against its reading of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import QwenImageLoraLoaderMixin
from qied_client.protocol.request import LoraChoice
from torch import Tensor

from qied.engine.transformer.transformer import Transformer

Make = Callable[..., Transformer]
Inputs = Callable[..., Any]
Write = Callable[..., dict[str, Any]]

ALL = (
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    *("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2", "img_mod.1", "txt_mod.1"),
)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("style", "options"),
    [
        ("peft", {}),
        ("peft", {"stored_alpha": 10.0}),
        ("diffusers", {}),
        ("peft-model", {"alpha": 3.0}),
        ("comfyui", {"alpha": 8.0}),
        ("lightning", {"alpha": 2.0}),
        ("lightning-comfyui", {}),
        ("kohya", {"alpha": 6.0}),
    ],
    ids=["peft", "peft-alpha", "diffusers", "peft-model", "comfyui", "lightning", "lightning-comfyui", "kohya"],
)
def test_each_style_of_file_gives_what_merged_weights_give(
    tmp_path: Path,
    write_lora: Write,
    inputs: Inputs,
    merged: Callable[..., Tensor],
    branched: Callable[..., Tensor],
    style: str,
    options: dict[str, float],
) -> None:
    added = write_lora(tmp_path / "a.safetensors", style=style, modules=ALL, **options)
    scene = inputs(0, (4, 5), (3, 3))
    expected = merged(scene, [(added, 0.7)])
    assert relative_error(branched(scene, tmp_path, [LoraChoice("a", 0.7)]), expected) < 1e-5
    assert relative_error(merged(scene, []), expected) > 0.05, "this LoRA changes nothing much"


@pytest.mark.parametrize(
    ("style", "alpha"), [("peft", None), ("comfyui", 8.0), ("lightning", 2.0), ("kohya", 1.0)], ids=str
)
def test_files_are_read_as_diffusers_reads_them(
    tmp_path: Path,
    write_lora: Write,
    inputs: Inputs,
    merged: Callable[..., Tensor],
    branched: Callable[..., Tensor],
    style: str,
    alpha: float | None,
) -> None:
    write_lora(tmp_path / "a.safetensors", style=style, alpha=alpha, modules=ALL)
    state = QwenImageLoraLoaderMixin.lora_state_dict(str(tmp_path / "a.safetensors"))
    added = {}
    for name in [name for name in state if "lora_A" in name]:
        product = state[name.replace("lora_A", "lora_B")].double() @ state[name].double()
        added[name.removesuffix(".lora_A.weight").removeprefix("transformer.")] = product
    assert len(added) == 6 * len(ALL)
    scene = inputs(0, (4, 5), (3, 3))
    assert relative_error(branched(scene, tmp_path, [LoraChoice("a")]), merged(scene, [(added, 1.0)])) < 1e-5


def test_several_loras_add_up_and_may_cover_parts_of_a_packed_linear(
    tmp_path: Path,
    write_lora: Write,
    inputs: Inputs,
    merged: Callable[..., Tensor],
    branched: Callable[..., Tensor],
) -> None:
    added = [
        write_lora(tmp_path / "a.safetensors", modules=("attn.to_v", "attn.to_q", "txt_mod.1"), rank=3, alpha=1.5),
        write_lora(tmp_path / "b.safetensors", style="kohya", modules=("attn.to_k", "attn.to_v"), rank=5, blocks=(2,)),
        write_lora(tmp_path / "c.safetensors", style="lightning", modules=("attn.add_v_proj",), rank=1, blocks=(0, 5)),
    ]
    strengths = [1.0, -2.0, 4.0]
    scene = inputs(0, (4, 5), (3, 3))
    expected = merged(scene, list(zip(added, strengths, strict=True)))
    choices = [LoraChoice(name, strength) for name, strength in zip("abc", strengths, strict=True)]
    assert relative_error(branched(scene, tmp_path, choices), expected) < 1e-5
