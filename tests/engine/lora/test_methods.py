"""Every way to train and every spelling: the same as dense weights in FP64, and the same as the reference LoRA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from qied_client.errors import ModelUnsupported
from qied_client.protocol.request import LoraChoice
from safetensors.torch import load_file, save_file
from torch import Tensor

from qied.engine.lora.library import LoraLibrary
from qied.loras.catalogue import find_loras
from qied.loras.keys import OUTSIDE
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_loras_folder
from tests.conftest import SHAPES

Velocity = Callable[..., Tensor]
Tensors = dict[str, Tensor]
TOP = {
    "img_in": (256, 64),
    "txt_in": (256, 128),
    "proj_out": (64, 256),
    "norm_out.linear": (512, 256),
    "time_text_embed.timestep_embedder.linear_1": (256, 256),
    "time_text_embed.timestep_embedder.linear_2": (256, 256),
}
LINEARS = {f"transformer_blocks.{block}.{module}": shape for block in (0, 3) for module, shape in SHAPES.items()} | TOP


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm())


class Random:
    """Matrices that come out the same each time."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(7)

    def __call__(self, *shape: int, size: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self._generator) * size / max(shape[-1], 1) ** 0.5


def lokr(
    random: Random, outputs: int, inputs: int, *, left: int, decomposed: str, alpha: float | None
) -> tuple[Tensors, Tensor]:
    """A LoKr of ``left`` x ``left`` and the rest; ``decomposed`` names the factors that are products of rank 4."""
    parts: Tensors = {}
    factors = {"w1": (left, left), "w2": (outputs // left, inputs // left)}
    dense: Tensors = {}
    for name, (rows, columns) in factors.items():
        size = 0.5 if name == "w1" else 1.0
        if name in decomposed:
            up, down = random(rows, 4, size=size), random(4, columns)
            parts |= {f"lokr_{name}_a": up, f"lokr_{name}_b": down}
            dense[name] = up.double() @ down.double()
        else:
            parts[f"lokr_{name}"] = random(rows, columns, size=size)
            dense[name] = parts[f"lokr_{name}"].double()
    scale = 1.0 if alpha is None or not decomposed else alpha / 4
    if alpha is not None:
        parts["alpha"] = torch.tensor(alpha)
    return parts, torch.kron(dense["w1"], dense["w2"]) * scale


def loha(random: Random, outputs: int, inputs: int, *, rank: int, alpha: float | None) -> tuple[Tensors, Tensor]:
    parts = {
        f"hada_w{number}_{side}": random(*((outputs, rank) if side == "a" else (rank, inputs)), size=3.0)
        for number in (1, 2)
        for side in "ab"
    }
    wide = {name: tensor.double() for name, tensor in parts.items()}
    dense = (wide["hada_w1_a"] @ wide["hada_w1_b"]) * (wide["hada_w2_a"] @ wide["hada_w2_b"])
    if alpha is not None:
        parts["alpha"] = torch.tensor(alpha)
    return parts, dense * (1.0 if alpha is None else alpha / rank)


def difference(random: Random, outputs: int, inputs: int) -> tuple[Tensors, Tensor]:
    matrix = random(outputs, inputs, size=0.3)
    return {"diff": matrix}, matrix.double()


def plain(random: Random, outputs: int, inputs: int) -> tuple[Tensors, Tensor]:
    down, up = random(4, inputs), random(outputs, 4, size=0.6)
    return {"lora_A.weight": down, "lora_B.weight": up}, up.double() @ down.double()


METHODS: dict[str, Callable[[Random, int, int], tuple[Tensors, Tensor]]] = {
    "lora": plain,
    "lokr": lambda *given: lokr(*given, left=8, decomposed="", alpha=2.0),
    "lokr-large-left": lambda *given: lokr(*given, left=32, decomposed="", alpha=None),
    "lokr-low-rank": lambda *given: lokr(*given, left=4, decomposed="w2", alpha=6.0),
    "lokr-both-low-rank": lambda *given: lokr(*given, left=16, decomposed="w1 w2", alpha=2.0),
    "loha": lambda *given: loha(*given, rank=3, alpha=1.5),
    "loha-of-full-rank": lambda *given: loha(*given, rank=17, alpha=None),
    "difference": difference,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prefix", ["diffusion_model.", "lycoris_"])
def test_each_method_gives_what_weights_give_that_were_merged_in_fp64(
    tmp_path: Path, inputs: Callable[..., Any], merged: Velocity, branched: Velocity, method: str, prefix: str
) -> None:
    random, tensors, added = Random(), {}, {}
    large = method in ("difference", "loha-of-full-rank")
    for name, shape in LINEARS.items():
        if large and ".0." in name and "attn" not in name:
            continue
        parts, dense = METHODS[method](random, *shape)
        stem = prefix + (name.replace(".", "_") if prefix.endswith("_") else name)
        tensors |= {f"{stem}.{part}": tensor for part, tensor in parts.items()}
        added[name] = dense
        if method == "difference":
            tensors[f"{stem}.diff_b"] = random(shape[0])
            added[f"{name}.bias"] = tensors[f"{stem}.diff_b"].double()
    save_file(tensors, tmp_path / "a.safetensors")
    scene = inputs(0, (4, 5), (3, 3))
    expected = merged(scene, [(added, 0.7)])
    assert relative_error(branched(scene, tmp_path, [LoraChoice("a", 0.7)]), expected) < 2e-5
    assert relative_error(merged(scene, []), expected) > 0.05, "this changes nothing much"


@pytest.mark.parametrize("module", OUTSIDE)
def test_each_linear_outside_the_blocks_counts(
    tmp_path: Path, inputs: Callable[..., Any], merged: Velocity, branched: Velocity, module: str
) -> None:
    parts, dense = plain(Random(), *TOP[module])
    save_file(
        {f"transformer.{module}.{part}": tensor * 3 for part, tensor in parts.items()}, tmp_path / "a.safetensors"
    )
    scene = inputs(0, (4, 5), (3, 3))
    expected = merged(scene, [({module: 9 * dense}, 1.0)])
    assert relative_error(branched(scene, tmp_path, [LoraChoice("a")]), expected) < 2e-5
    assert relative_error(merged(scene, []), expected) > 1e-3


SPELLINGS = {
    "diffusers": "transformer.{dotted}.lora_{ab}.weight",
    "ai-toolkit": "diffusion_model.{dotted}.lora_{ab}.weight",
    "adapter default": "{dotted}.lora_{ab}.default.weight",
    "adapter of another name": "{dotted}.lora_{ab}.my-style.weight",
    "wrapped twice": "{dotted}.lora_{ab}.default_0.default.weight",
    "saved from PEFT's module": "base_model.model.transformer.{dotted}.lora_{ab}.weight",
    "kohya": "lora_unet_{flat}.lora_{du}.weight",
    "kohya without prefix": "{flat}.lora_{du}.weight",
    "OneTrainer": "lora_transformer_{flat}.lora_{du}.weight",
    "OneTrainer, dotted": "transformer.{dotted}.lora_{du}.weight",
    "LyCORIS": "lycoris_{flat}.lora_{du}.weight",
    "diffusers of before": "transformer.{dotted}.lora.{du}.weight",
    "SimpleTuner": "transformer.base_model.model.{dotted}.lora_{ab}.weight",
    "twice transformer": "transformer.transformer.{dotted}.lora_{ab}.weight",
    "a checkpoint's prefix": "model.diffusion_model.{dotted}.lora_{du}.weight",
    "a trainer of tomorrow": "my_trainer.dit.{dotted}.lora_{du}.weight",
}
ALPHAS = {
    "none": None,
    "FP32": torch.tensor(16.0),
    "integer": torch.tensor(16),
    "one number in a list": torch.tensor([16.0]),
    "a small matrix": torch.tensor([[16]], dtype=torch.int32),
    "one for each rank": torch.full((16,), 16.0, dtype=torch.float16),
}


@pytest.fixture(scope="module")
def reference() -> Tensors:
    """The tensors of the built-in outline LoRA."""
    return load_file(builtin_loras_folder() / "builtin-outline.safetensors")


def respelt(reference: Tensors, spelling: str, alpha: Tensor | None = None) -> Tensors:
    """The same LoRA in another spelling, with these alphas of its rank."""
    found: Tensors = {}
    for name, tensor in reference.items():
        dotted, _, end = name.removeprefix("transformer.").partition(".lora_")
        words = {"dotted": dotted, "flat": dotted.replace(".", "_")}
        letter = end[0]
        new = spelling.format(**words, ab=letter, du="down" if letter == "A" else "up")
        found[new] = tensor
        if alpha is not None:
            stem = spelling.partition(".lora")[0].format(**words)
            found[f"{stem}.alpha"] = alpha.clone()
    return found


def all_tensors(folder: Path, profile: ModelProfile) -> list[Tensor]:
    """Everything that the only LoRA of a folder has on the device."""
    files = find_loras([folder], profile.architecture)
    assert not [facts.problem for facts in files.facts.values() if facts.problem]
    library = LoraLibrary(files.files, profile.architecture, torch.device("cpu"), torch.bfloat16, 1 << 30)
    found = []
    for block in library.branches([LoraChoice(next(iter(files.files)))]):
        for stream in (block.image, block.text):
            for side in (stream.qkv, stream.out, stream.up, stream.down):
                found += [tensor for scaled in side for tensor in scaled.branch.tensors]
    return found


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_lora_in_every_spelling_is_the_same_to_the_bit(
    tmp_path: Path, reference: Tensors, profile: ModelProfile, spelling: str, alpha: str
) -> None:
    if SPELLINGS[spelling].startswith("base_model.") and alpha == "none":
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "adapter_config.json").write_text('{"lora_alpha": 16, "r": 16}')
    for name, style, scale in (("reference", SPELLINGS["diffusers"], None), ("a", SPELLINGS[spelling], ALPHAS[alpha])):
        (tmp_path / name).mkdir(exist_ok=True)
        save_file(respelt(reference, style, scale), tmp_path / name / "it.safetensors")
    expected, found = (all_tensors(tmp_path / name, profile) for name in ("reference", "a"))
    assert len(expected) == len(found) > 20
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_the_part_for_the_text_encoder_is_left_out_and_named(
    tmp_path: Path, reference: Tensors, profile: ModelProfile
) -> None:
    kohya = respelt(reference, SPELLINGS["kohya"], ALPHAS["FP32"])
    stem = "lora_te1_model_layers_0_self_attn_q_proj"
    more = {f"{stem}.lora_down.weight": torch.ones(4, 128), f"{stem}.lora_up.weight": torch.ones(128, 4)}
    for name, tensors in (("reference", kohya), ("a", kohya | more)):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "it.safetensors")
    assert all(map(torch.equal, *(all_tensors(tmp_path / name, profile) for name in ("reference", "a"))))
    note = find_loras([tmp_path / "a"], profile.architecture).facts["it"].note
    assert note.startswith("Its part for the text encoder is not used: 2 tensors, such as 'lora_te1_model_layers_0")


def test_a_difference_of_a_norm_must_be_zero(tmp_path: Path, reference: Tensors, profile: ModelProfile) -> None:
    for name, values in (("zero", torch.zeros(64)), ("moved", torch.full((64,), 0.1))):
        (tmp_path / name).mkdir()
        norm = {"diffusion_model.transformer_blocks.0.attn.norm_q.diff": values}
        save_file(respelt(reference, SPELLINGS["ai-toolkit"]) | norm, tmp_path / name / "it.safetensors")
    assert len(all_tensors(tmp_path / "zero", profile)) > 20
    with pytest.raises(ModelUnsupported, match="norm_q.diff changes a norm"):
        all_tensors(tmp_path / "moved", profile)


def test_alphas_that_differ_for_one_linear_are_refused(
    tmp_path: Path, reference: Tensors, profile: ModelProfile
) -> None:
    alphas = torch.tensor([8.0, 4.0])
    save_file(respelt(reference, SPELLINGS["kohya"], alphas), tmp_path / "it.safetensors")
    with pytest.raises(ModelUnsupported, match="holds several alphas"):
        all_tensors(tmp_path, profile)


def test_a_branch_needs_no_more_room_between_its_matrices_than_is_planned(
    tmp_path: Path, profile: ModelProfile
) -> None:
    random, tensors = Random(), {}
    for name, shape in LINEARS.items():
        if "_mod" not in name and name not in TOP:
            parts, _ = METHODS["lokr" if "mlp" in name else "loha"](random, *shape)
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    save_file(tensors, tmp_path / "it.safetensors")
    files = find_loras([tmp_path], profile.architecture)
    library = LoraLibrary(files.files, profile.architecture, torch.device("cpu"), torch.float32, 1 << 30)
    widths = [block.width for block in library.branches([LoraChoice("it")])]
    assert max(widths) == files.facts["it"].width == 8 * 32
    assert library.device_bytes == 4 * files.facts["it"].parameters
