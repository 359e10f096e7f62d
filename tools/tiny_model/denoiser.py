"""The transformer of the small model: its configuration, first weights, and the forward that training records.

The forward computes what diffusers' class does with the same weights, in a form for training: batches whose text is
padded, one product for query, key and value, real instead of complex rotations, and attention that leaves padding out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import QwenImageTransformer2DModel
from torch import Tensor, nn

TRANSFORMER_CONFIG: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 6,
    "attention_head_dim": 64,
    "num_attention_heads": 4,
    "joint_attention_dim": 128,
    "axes_dims_rope": (8, 28, 28),
    "zero_cond_t": True,
}
HEADS: int = TRANSFORMER_CONFIG["num_attention_heads"]
GRID = 16
"""Tokens along each side of a picture: 256 pixels, 8 a latent, 2 x 2 latents a token."""
PICTURE_TOKENS = GRID * GRID
LINEARS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_out.0",
    "attn.to_add_out",
    "img_mlp.net.0.proj",
    "img_mlp.net.2",
    "txt_mlp.net.0.proj",
    "txt_mlp.net.2",
)
"""The linear layers of a block that a LoRA changes: all but the modulation."""
_ROUNDED_WEIGHTS = tuple(f"{name}.weight" for name in LINEARS)
E4M3_MAX = 448.0
_EPS = 1e-6
_TIME_CHANNELS = 256
_TIME_SCALE = 1000.0
_MAX_PERIOD = 10000.0

Weights = Mapping[str, Tensor]


def make_transformer() -> QwenImageTransformer2DModel:
    """A transformer that starts as the identity: gates, modulation and output are zero. FP32, on the CPU."""
    model = QwenImageTransformer2DModel(**TRANSFORMER_CONFIG)
    for block in model.transformer_blocks:
        for name in LINEARS:
            _fill(block.get_submodule(name), nn.init.xavier_uniform_)
        for modulation in (block.img_mod[1], block.txt_mod[1]):
            _fill(modulation, nn.init.zeros_)
    for layer in (model.norm_out.linear, model.proj_out):
        _fill(layer, nn.init.zeros_)
    for layer in (model.img_in, model.txt_in):
        _fill(layer, nn.init.xavier_uniform_)
    embedder = model.time_text_embed.timestep_embedder
    for layer in (embedder.linear_1, embedder.linear_2):
        nn.init.normal_(layer.weight, std=0.02)
    return model


def _fill(layer: nn.Module, initialise: Any) -> None:
    assert isinstance(layer, nn.Linear)
    initialise(layer.weight)
    nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of the rotary positions, FP32 [tokens, 1, head size / 2] each, image tokens before the text."""

    cos: Tensor
    sin: Tensor


def rotation(model: QwenImageTransformer2DModel, pictures: int, text_tokens: int, device: torch.device) -> Rotation:
    """Positions of a target with ``pictures`` references and ``text_tokens`` tokens of (padded) text."""
    shapes = [[(1, GRID, GRID)] * (1 + pictures)]
    image, text = model.pos_embed(shapes, max_txt_seq_len=text_tokens, device=torch.device("cpu"))
    angles = torch.cat([image, text])[:, None]
    return Rotation(angles.real.contiguous().to(device), angles.imag.contiguous().to(device))


@dataclass(frozen=True)
class Layout:
    """Which tokens of a batch attend to each other. One of both is set.

    boundaries: on a GPU, int32 [2 B + 1], where sequences start in the flattened batch; a sample's padding is a
    sequence of its own. mask: elsewhere, bool [B, 1, 1, tokens], True where a key is real.
    """

    boundaries: Tensor | None
    mask: Tensor | None


def layout(lengths: Tensor, image_tokens: int, text_tokens: int) -> Layout:
    """From the number of real text tokens [B] of each sample."""
    tokens = image_tokens + text_tokens
    count = len(lengths)
    if lengths.is_cuda:
        starts = torch.arange(count, device=lengths.device) * tokens
        bounds = torch.stack([starts, starts + image_tokens + lengths], 1).flatten()
        return Layout(F.pad(bounds, (0, 1), value=count * tokens).int(), None)
    real = torch.arange(tokens, device=lengths.device) < image_tokens + lengths[:, None]
    return Layout(None, real[:, None, None])


def time_channels(noise_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Sinusoids [B, 256] of noise levels [B] (0..1), with the rounding of a pipeline that computes in ``dtype``."""
    half = _TIME_CHANNELS // 2
    exponent = torch.arange(half, device=noise_levels.device, dtype=torch.float32) / half
    frequencies = torch.exp(-exponent * math.log(_MAX_PERIOD)).to(dtype)
    angles = _TIME_SCALE * (noise_levels.to(dtype)[:, None].float() * frequencies.float())
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rounded(x: Tensor, share: Tensor, stored: torch.dtype | None = None) -> Tensor:
    """x with ``share`` (0..1) of its rounding to E4M3, scaled by the largest of each row; gradients pass unchanged.

    Rows are tokens of an activation [..., channels], or output channels of a weight. What is ``stored`` in another type
    is rounded to that first: what lies at the edge between two FP8 numbers may be on the other side of it there.
    """
    with torch.no_grad():
        wide = x.float() if stored is None else x.to(stored).float()
        scale = wide.abs().amax(-1, keepdim=True).clamp(min=1e-12) / E4M3_MAX
        error = (wide / scale).to(torch.float8_e4m3fn).float() * scale - x.float()
    return x + (share * error).to(x.dtype)


class Denoiser:
    """The transformer's forward over a mapping of its weights by their names, so that a LoRA's can stand in for some.

    ``compiled`` fuses each block's pointwise operations (a GPU's memory traffic is most of its time otherwise).
    """

    def __init__(self, dtype: torch.dtype, *, compiled: bool = False) -> None:
        self._dtype = dtype
        self._block = torch.compile(_block, dynamic=False) if compiled else _block

    def __call__(
        self,
        weights: Weights,
        pictures: Tensor,
        text: Tensor,
        time: Tensor,
        rotation: Rotation,
        layout: Layout,
        rounding: Tensor | None = None,
    ) -> Tensor:
        """Velocity FP32 [B, 256, 64] of the target.

        pictures [B, 1 + references, 256, 64]: packed latents, the noisy target first. text [B, T, 128]: what the text
        encoder gives after the template. time [B, 256]: ``time_channels`` of the noise levels. ``rounding`` (0-dim,
        0..1): how far weights and inputs of ``LINEARS`` are rounded to E4M3, as by row-wise FP8; None: not at all.
        """
        if rounding is not None:
            weights = {
                name: rounded(weight, rounding, torch.bfloat16) if name.endswith(_ROUNDED_WEIGHTS) else weight
                for name, weight in weights.items()
            }
        cast = {name: weight.to(self._dtype) for name, weight in weights.items()}
        image = _linear(pictures.to(self._dtype), cast, "img_in")
        text = _linear(_rms_norm(text.to(self._dtype), cast["txt_norm.weight"]), cast, "txt_in")
        # The last row is that of time zero, which modulates every reference.
        zero = time_channels(torch.zeros(1, device=time.device), torch.float32)
        embedded = self._time_embedding(torch.cat([time, zero]), cast)
        for number in range(TRANSFORMER_CONFIG["num_layers"]):
            prefix = f"transformer_blocks.{number}."
            own = {name.removeprefix(prefix): weight for name, weight in cast.items() if name.startswith(prefix)}
            image, text = self._block(
                image, text, embedded, own, rotation.cos, rotation.sin, layout.boundaries, layout.mask, rounding
            )
        scale, shift = _linear(F.silu(embedded[:-1]), cast, "norm_out.linear").chunk(2, dim=-1)
        return _linear(_modulated(image[:, 0], shift[:, None], scale[:, None]), cast, "proj_out").float()

    def _time_embedding(self, channels: Tensor, weights: Weights) -> Tensor:
        prefix = "time_text_embed.timestep_embedder"
        hidden = F.silu(_linear(channels.to(self._dtype), weights, f"{prefix}.linear_1"))
        return _linear(hidden, weights, f"{prefix}.linear_2")


def _block(
    image: Tensor,
    text: Tensor,
    embedded: Tensor,
    weights: Weights,
    cos: Tensor,
    sin: Tensor,
    boundaries: Tensor | None,
    mask: Tensor | None,
    rounding: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One double-stream block: image [B, P, 256, D], text [B, T, D], embedded [B + 1, D] (time zero last)."""
    batch, pictures = image.shape[:2]
    active = F.silu(embedded)
    of_image = _linear(active, weights, "img_mod.1")
    reference = of_image[-1:].expand(batch, -1)
    rows = torch.stack([of_image[:-1], *[reference] * (pictures - 1)], 1)[:, :, None].chunk(6, dim=-1)
    of_text = _linear(active[:-1], weights, "txt_mod.1")[:, None].chunk(6, dim=-1)

    def entering(x: Tensor) -> Tensor:
        return x if rounding is None else rounded(x, rounding)

    normed_image = entering(_modulated(image, rows[0], rows[1]).flatten(1, 2))
    normed_text = entering(_modulated(text, of_text[0], of_text[1]))
    heads = [
        _heads(normed_image, weights, ("attn.to_q", "attn.to_k", "attn.to_v"), ("attn.norm_q", "attn.norm_k")),
        _heads(
            normed_text,
            weights,
            ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
            ("attn.norm_added_q", "attn.norm_added_k"),
        ),
    ]
    query, key, value = (torch.cat(both, dim=1) for both in zip(*heads, strict=True))
    query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
    attended = entering(_attention(query, key, value, boundaries, mask))
    image_tokens = normed_image.shape[1]
    to_image = _linear(attended[:, :image_tokens], weights, "attn.to_out.0").view(image.shape)
    to_text = _linear(attended[:, image_tokens:], weights, "attn.to_add_out")
    image, text = image + rows[2] * to_image, text + of_text[2] * to_text
    image = image + rows[5] * _mlp(_modulated(image, rows[3], rows[4]), weights, "img_mlp", entering)
    text = text + of_text[5] * _mlp(_modulated(text, of_text[3], of_text[4]), weights, "txt_mlp", entering)
    return image, text


def _linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x.float(), x.shape[-1:], eps=_EPS).to(x.dtype) * (1 + scale) + shift


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + _EPS)).to(x.dtype) * weight


def _heads(
    x: Tensor, weights: Weights, projections: tuple[str, str, str], norms: tuple[str, str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [B, tokens, heads, head size], the first two normed."""
    weight = torch.cat([weights[f"{name}.weight"] for name in projections])
    bias = torch.cat([weights[f"{name}.bias"] for name in projections])
    query, key, value = F.linear(x, weight, bias).unflatten(-1, (3, HEADS, -1)).unbind(2)
    return _rms_norm(query, weights[f"{norms[0]}.weight"]), _rms_norm(key, weights[f"{norms[1]}.weight"]), value


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels of x [B, tokens, heads, head size]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def _attention(query: Tensor, key: Tensor, value: Tensor, boundaries: Tensor | None, mask: Tensor | None) -> Tensor:
    """Attention [B, tokens, D] of [B, tokens, heads, head size]; what padding gets means nothing."""
    batch, tokens = query.shape[:2]
    if boundaries is None:
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
    # Only builds of torch for CUDA have a kernel for it.
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    attended = varlen_attn(query, key, value, boundaries, boundaries, tokens, tokens)
    assert isinstance(attended, Tensor)
    return attended.view(batch, tokens, -1)


def _mlp(x: Tensor, weights: Weights, name: str, entering: Callable[[Tensor], Tensor]) -> Tensor:
    wide = F.gelu(_linear(entering(x), weights, f"{name}.net.0.proj"), approximate="tanh")
    return _linear(entering(wide), weights, f"{name}.net.2")
