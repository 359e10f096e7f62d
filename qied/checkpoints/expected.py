"""Which tensors a whole component has, with their shapes, from the counts of its model's profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from qied_client.text import counted

from qied.checkpoints.llama.names import belongs_to
from qied.checkpoints.names import PartRole
from qied.checkpoints.part_file import PartFile
from qied.planning.layout.block_layout import NORMS, BlockShape, linears
from qied.planning.profiles.model_profile import Architecture, ModelProfile, TextEncoderFacts
from qied.weights.stored import Stored

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

_TIME_CHANNELS = 256
_MODULATION_ROWS = 6
_PATCH = (2, 14, 14)
"""Frames and pixels that one patch of the vision tower covers."""
_MERGED = 4
"""Patches that the vision tower makes one token of."""
_VAE_MULTIPLIERS = (1, 2, 4, 4)
_VAE_BLOCKS = 2
_VAE_TEMPORAL = (False, True, True)
"""Which of the VAE's three halvings also halve time."""


def transformer_shapes(facts: Architecture) -> Shapes:
    """Shapes of QwenImageTransformer2DModel's tensors, by diffusers' names."""
    inner, channels = facts.inner_dim, facts.token_channels
    found: Shapes = {
        "txt_norm.weight": (facts.joint_dim,),
        **_linear("img_in", inner, channels),
        **_linear("txt_in", inner, facts.joint_dim),
        **_linear("time_text_embed.timestep_embedder.linear_1", inner, _TIME_CHANNELS),
        **_linear("time_text_embed.timestep_embedder.linear_2", inner, inner),
        **_linear("norm_out.linear", 2 * inner, inner),
        **_linear("proj_out", channels, inner),
    }
    block = dict(_block(facts))
    for number in range(facts.layers):
        found |= {f"transformer_blocks.{number}.{name}": shape for name, shape in block.items()}
    return found


def text_encoder_shapes(facts: TextEncoderFacts) -> Shapes:
    """Shapes of Qwen2_5_VLModel's tensors, by transformers' names; the language head is not among them."""
    hidden, vision = facts.hidden, facts.vision_hidden
    width, kv_width, merged = facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim, _MERGED * vision
    layer: Shapes = {
        **_linear("self_attn.q_proj", width, hidden),
        **_linear("self_attn.k_proj", kv_width, hidden),
        **_linear("self_attn.v_proj", kv_width, hidden),
        "self_attn.o_proj.weight": (hidden, width),
        "mlp.gate_proj.weight": (facts.mlp_dim, hidden),
        "mlp.up_proj.weight": (facts.mlp_dim, hidden),
        "mlp.down_proj.weight": (hidden, facts.mlp_dim),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    seen: Shapes = {
        **_linear("attn.qkv", 3 * vision, vision),
        **_linear("attn.proj", vision, vision),
        **_linear("mlp.gate_proj", facts.vision_mlp_dim, vision),
        **_linear("mlp.up_proj", facts.vision_mlp_dim, vision),
        **_linear("mlp.down_proj", vision, facts.vision_mlp_dim),
        "norm1.weight": (vision,),
        "norm2.weight": (vision,),
    }
    return {
        "language_model.embed_tokens.weight": (facts.vocabulary, hidden),
        "language_model.norm.weight": (hidden,),
        **{f"language_model.layers.{n}.{name}": shape for n in range(facts.layers) for name, shape in layer.items()},
        "visual.patch_embed.proj.weight": (vision, 3, *_PATCH),
        **{f"visual.blocks.{n}.{name}": shape for n in range(facts.vision_layers) for name, shape in seen.items()},
        "visual.merger.ln_q.weight": (vision,),
        **_linear("visual.merger.mlp.0", merged, merged),
        **_linear("visual.merger.mlp.2", hidden, merged),
    }


def vae_shapes(facts: Architecture) -> Shapes:
    """Shapes of AutoencoderKLQwenImage's tensors, by diffusers' names."""
    base, latent = facts.vae_base_dim, facts.latent_channels
    widths = [base * multiplier for multiplier in _VAE_MULTIPLIERS]
    top = widths[-1]
    return {
        **_convolution("quant_conv", 2 * latent, 2 * latent, 1),
        **_convolution("post_quant_conv", latent, latent, 1),
        **_convolution("encoder.conv_in", base, 3, 3),
        **_convolution("encoder.conv_out", 2 * latent, top, 3),
        **_norm("encoder.norm_out", top),
        **_middle("encoder.mid_block", top),
        **dict(_down(base, widths)),
        **_convolution("decoder.conv_in", top, latent, 3),
        **_convolution("decoder.conv_out", 3, base, 3),
        **_norm("decoder.norm_out", base),
        **_middle("decoder.mid_block", top),
        **dict(_up(widths)),
    }


def _block(facts: Architecture) -> Iterator[tuple[str, Shape]]:
    shape = BlockShape(facts.inner_dim, facts.mlp_dim, facts.head_dim)
    for linear in linears(shape):
        for module in linear.modules:
            yield from _linear(module, linear.outputs // len(linear.modules), linear.inputs).items()
    for norm in NORMS:
        yield norm.parameter, (facts.head_dim,)
    for modulation in ("img_mod.1", "txt_mod.1"):
        yield from _linear(modulation, _MODULATION_ROWS * facts.inner_dim, facts.inner_dim).items()


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, outputs: int, inputs: int, side: int) -> Shapes:
    """A causal convolution over time, rows and columns."""
    return {f"{name}.weight": (outputs, inputs, side, side, side), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.gamma": (width, 1, 1, 1)}


def _residual(name: str, inputs: int, outputs: int) -> Shapes:
    shortcut = _convolution(f"{name}.conv_shortcut", outputs, inputs, 1) if inputs != outputs else {}
    return {
        **_norm(f"{name}.norm1", inputs),
        **_convolution(f"{name}.conv1", outputs, inputs, 3),
        **_norm(f"{name}.norm2", outputs),
        **_convolution(f"{name}.conv2", outputs, outputs, 3),
        **shortcut,
    }


def _resampling(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.resample.1.weight": (outputs, inputs, 3, 3), f"{name}.resample.1.bias": (outputs,)}


def _over_time(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.time_conv.weight": (outputs, inputs, 3, 1, 1), f"{name}.time_conv.bias": (outputs,)}


def _middle(name: str, width: int) -> Shapes:
    attention = f"{name}.attentions.0"
    return {
        **_residual(f"{name}.resnets.0", width, width),
        **_residual(f"{name}.resnets.1", width, width),
        f"{attention}.norm.gamma": (width, 1, 1),
        f"{attention}.to_qkv.weight": (3 * width, width, 1, 1),
        f"{attention}.to_qkv.bias": (3 * width,),
        f"{attention}.proj.weight": (width, width, 1, 1),
        f"{attention}.proj.bias": (width,),
    }


def _down(base: int, widths: list[int]) -> Iterator[tuple[str, Shape]]:
    """The encoder's blocks, one flat list: residual blocks of each level, then what halves the size."""
    number, inputs = 0, base
    for level, width in enumerate(widths):
        for _ in range(_VAE_BLOCKS):
            yield from _residual(f"encoder.down_blocks.{number}", inputs, width).items()
            number, inputs = number + 1, width
        if level < len(_VAE_TEMPORAL):
            name = f"encoder.down_blocks.{number}"
            yield from _resampling(name, width, width).items()
            if _VAE_TEMPORAL[level]:
                yield from _over_time(name, width, width).items()
            number += 1


def _up(widths: list[int]) -> Iterator[tuple[str, Shape]]:
    """The decoder's levels; each doubling halves the channels, so later levels begin with half of the width before."""
    downwards = widths[::-1]
    before = downwards[0]
    for level, width in enumerate(downwards):
        inputs = before if level == 0 else before // 2
        for number in range(_VAE_BLOCKS + 1):
            yield from _residual(f"decoder.up_blocks.{level}.resnets.{number}", inputs, width).items()
            inputs = width
        if level < len(_VAE_TEMPORAL):
            name = f"decoder.up_blocks.{level}.upsamplers.0"
            yield from _resampling(name, width // 2, width).items()
            if _VAE_TEMPORAL[::-1][level]:
                yield from _over_time(name, 2 * width, width).items()
        before = width


_SHOWN = 3


def expected_shapes(profile: ModelProfile, role: PartRole) -> Shapes:
    """Every tensor of a whole part of this model, with its shape."""
    return _shapes(profile.architecture, role)


@cache
def _shapes(facts: Architecture, role: PartRole) -> Shapes:
    if role == "transformer":
        return transformer_shapes(facts)
    return text_encoder_shapes(facts.text_encoder) if role == "text_encoder" else vae_shapes(facts)


def faults(tensors: Mapping[str, Stored], expected: Shapes, *, whole: bool) -> Iterator[str]:
    """What is wrong with a part's tensors, a clause each; a file that is not a ``whole`` part need not have all."""
    unknown = sorted(name for name in tensors if name not in expected)
    if unknown:
        belong = "does not belong" if len(unknown) == 1 else "do not belong"
        yield f"{counted(len(unknown), 'tensor')} {belong} to the model: {_some(unknown)}"
    for name, tensor in tensors.items():
        wanted = expected.get(name, tensor.entry.shape)
        if tensor.entry.shape != wanted:
            yield f"{tensor.key[:120]!r} is {list(tensor.entry.shape)}, but should be {list(wanted)}"
            break
    missing = [name for name in expected if name not in tensors]
    if whole and missing:
        yield f"{counted(len(missing), 'tensor')} {'is' if len(missing) == 1 else 'are'} missing: {_some(missing)}"


def faults_together(parts: Sequence[PartFile], profile: ModelProfile) -> Iterator[str]:
    """What is wrong with the files that hold one part of this model together, a clause each."""
    files: dict[str, str] = {}
    tensors: dict[str, Stored] = {}
    for part in parts:
        twice = next((name for name in part.tensors if name in files), None)
        if twice is not None:
            yield f"{twice[:120]!r} is in {files[twice]} and in {part.path.name}"
        files |= dict.fromkeys(part.tensors, part.path.name)
        tensors |= part.tensors
    if parts:
        yield from faults(tensors, expected_shapes(profile, parts[0].role), whole=True)


def faults_of(part: PartFile, profile: ModelProfile) -> Iterator[str]:
    """What is wrong with a file as a part of this model, a clause each; half of a text encoder has to be that half."""
    expected = expected_shapes(profile, part.role)
    if part.half is not None:
        expected = {name: shape for name, shape in expected.items() if belongs_to(part.half, name)}
    return faults(part.tensors, expected, whole=not part.is_shard)


def fitting_profiles(part: PartFile, profiles: Mapping[str, ModelProfile]) -> list[ModelProfile]:
    """Models whose tensors these are, as far as they are there."""
    return [profile for profile in profiles.values() if not any(faults_of(part, profile))]


def nearest_profile(part: PartFile, profiles: Mapping[str, ModelProfile]) -> ModelProfile:
    """The model with which most of a part's tensors agree in name and shape; the largest where none do."""

    def agreeing(profile: ModelProfile) -> tuple[float, int]:
        return agreement(part, profile), profile.architecture.layers

    return max(profiles.values(), key=agreeing)


def agreement(part: PartFile, profile: ModelProfile) -> float:
    """The share of a part's tensors that have a name and a shape of this model, 0 to 1."""
    expected = expected_shapes(profile, part.role)
    same = sum(expected.get(name) == tensor.entry.shape for name, tensor in part.tensors.items())
    return same / max(1, len(part.tensors))


def _some(found: list[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(repr(name[:120]) for name in found[:_SHOWN]) + more
