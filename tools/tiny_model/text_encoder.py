"""The text encoder of the built-in model, a small Qwen2.5-VL, and a fast forward of it for training.

The forward gives what the library's class gives, for a fixed number of pictures of one size: no Python loop over
samples, no transfer between host and device, shapes that never change. So it can be captured as a CUDA graph.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from qied.engine.text.prompt import Grid, mrope_positions, plain_positions
from tools.tiny_model.prompts import IMAGE_TOKEN, PADDING, VOCABULARY, Prompts

HIDDEN = 128
"""Width of the hidden states that steer the transformer."""
CONDITION_SIDE = 112
"""Side in pixels of the picture that the vision tower sees: the processor's largest square below its pixel limit."""
PIPELINE_SIDE = 384
"""Side in pixels to which the pipeline resizes a square picture before it hands it to the processor."""
PATCH, MERGE, FRAMES = 14, 2, 2
PATCHES = (CONDITION_SIDE // PATCH) ** 2
PATCH_VALUES = 3 * FRAMES * PATCH * PATCH
# Mean and deviation of the red, green and blue that CLIP was trained on, as the processor's configuration has them.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def text_encoder_config(prompts: Prompts) -> Qwen2_5_VLConfig:
    """Three layers of width 128 and a vision tower of two layers of width 96, with the token ids of ``prompts``."""
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": HIDDEN,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
            "bos_token_id": None,
            "eos_token_id": prompts.token_id("<|im_end|>"),
            "pad_token_id": prompts.token_id(PADDING),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 3,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [1],
            "window_size": CONDITION_SIDE,
            "patch_size": PATCH,
            "spatial_patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
        },
        image_token_id=prompts.token_id(IMAGE_TOKEN),
        video_token_id=prompts.token_id("<|video_pad|>"),
        vision_start_token_id=prompts.token_id("<|vision_start|>"),
        vision_end_token_id=prompts.token_id("<|vision_end|>"),
        tie_word_embeddings=False,
    )


def make_text_encoder(prompts: Prompts, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """A text encoder with random FP32 weights on the CPU, the same for a seed; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration(text_encoder_config(prompts))


def condition_patches(pictures: Tensor) -> Tensor:
    """What the processor makes of pictures FP32 [N, 3, 256, 256] (0..1): ``pixel_values`` FP32 [N, PATCHES, 1176].

    The processor gets them enlarged by the pipeline, and rounds to 8 bits on the way; one bicubic step comes to the
    same within 0.2 levels of 255 on average and 10 at sharp edges. Each patch is there twice, as two frames.
    """
    small = F.interpolate(pictures, (CONDITION_SIDE, CONDITION_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
    mean, deviation = _colour_constants(pictures.device)
    blocks = CONDITION_SIDE // PATCH // MERGE
    grid = ((small - mean) / deviation).view(-1, 3, blocks, MERGE, PATCH, blocks, MERGE, PATCH)
    patches = grid.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    return patches.expand(-1, -1, -1, -1, -1, -1, FRAMES, -1, -1).reshape(-1, PATCHES, PATCH_VALUES)


@cache
def _colour_constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """``MEAN`` and ``DEVIATION`` [3, 1, 1] on ``device``, copied there once."""
    mean, deviation = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return mean, deviation


Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of rotary positions."""


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotary positions in FP32 on [..., tokens, head], first and second half of a head as pairs; in the dtype of x."""
    cos, sin = rotation
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def _frequencies(count: int, theta: float) -> Tensor:
    """``count`` angles per step of position, falling from 1 towards 1 / theta."""
    return theta ** -(torch.arange(count, dtype=torch.float32) / count)


def _text_rotation(config: Any, positions: Tensor) -> Rotation:
    """For positions [3, S] (time, height, width): each section of the frequencies turns by one axis; [S, head / 2]."""
    rope = config.rope_parameters
    frequencies = _frequencies(config.hidden_size // config.num_attention_heads // 2, rope["rope_theta"])
    axes = torch.arange(3).repeat_interleave(torch.tensor(rope["mrope_section"]))
    angles = positions[axes].T * frequencies
    return angles.cos(), angles.sin()


def _vision_rotation(config: Any) -> Rotation:
    """For the patches of one picture in the processor's order, merged blocks first: by row, then by column."""
    side = CONDITION_SIDE // PATCH
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequencies = _frequencies(config.hidden_size // config.num_heads // 4, 10_000.0)
    blocks = (side // MERGE, MERGE, side // MERGE, MERGE)
    steps = [axis.view(blocks).transpose(1, 2).reshape(-1, 1) for axis in (rows, columns)]
    angles = torch.cat([step * frequencies for step in steps], -1)
    return angles.cos(), angles.sin()


class TextEncoderForward:
    """Runs ``encoder``, which lies on ``device``, on prompts about ``pictures`` pictures each; differentiable.

    The padding on the right needs no mask: attention is causal, and its hidden states are for nobody.
    """

    def __init__(
        self,
        encoder: Qwen2_5_VLForConditionalGeneration,
        prompts: Prompts,
        pictures: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._visual: Any = encoder.model.visual
        self._language: Any = encoder.model.language_model
        self._dropped = prompts.DROPPED
        self._starts = prompts.picture_starts(pictures)
        self._vocabulary = torch.arange(VOCABULARY, device=device)
        cos, sin = _vision_rotation(encoder.config.vision_config)
        self._patch_rotation = (cos.to(device), sin.to(device))
        ids = prompts.batch([""], pictures)[0][0].tolist()
        side = CONDITION_SIDE // PATCH // MERGE
        mrope = mrope_positions(ids, prompts.token_id(IMAGE_TOKEN), [Grid(side, side)] * pictures)
        kinds = [
            _text_rotation(encoder.config.text_config, positions[:, 0]) for positions in (plain_positions(ids), mrope)
        ]
        self._cos = torch.stack([cos for cos, _ in kinds]).to(device)
        self._sin = torch.stack([sin for _, sin in kinds]).to(device)

    def __call__(self, ids: Tensor, patches: Tensor, mrope: Tensor) -> Tensor:
        """Hidden states [B, T, HIDDEN] after the template, through the final norm.

        ids: int64 [B, DROPPED + T]; patches: [B, pictures, PATCHES, 1176] in the dtype of the weights, in any under
        autocast; mrope: bool [B], whether a sample has Qwen2.5-VL's three-axis positions rather than plain ones.
        """
        hidden = self._insert(self._embed(ids), self._see(patches))
        kind = mrope.long()
        rotation = self._cos[kind].unsqueeze(1), self._sin[kind].unsqueeze(1)
        for layer in self._language.layers:
            hidden = hidden + _text_attention(layer.self_attn, _norm(layer.input_layernorm, hidden), rotation)
            hidden = hidden + layer.mlp(_norm(layer.post_attention_layernorm, hidden))
        return _norm(self._language.norm, hidden[:, self._dropped :])

    def _embed(self, ids: Tensor) -> Tensor:
        """Embeddings [B, S, HIDDEN]; while training on CUDA by a product, whose backward needs no sort."""
        table = self._language.embed_tokens
        if not (ids.is_cuda and torch.is_grad_enabled()):
            embeddings: Tensor = table(ids)
            return embeddings
        one_hot = (ids.unsqueeze(-1) == self._vocabulary).to(torch.bfloat16)
        product: Tensor = one_hot @ table.weight.to(torch.bfloat16)
        return product.to(table.weight.dtype)

    def _see(self, patches: Tensor) -> Tensor:
        """Features [B, pictures, IMAGE_TOKENS, HIDDEN]; the window of the tower's attention holds a whole picture."""
        visual = self._visual
        weight = visual.patch_embed.proj.weight.flatten(1)
        x = F.linear(patches.flatten(0, 1), weight).to(weight.dtype)
        for block in visual.blocks:
            x = x + _vision_attention(block.attn, _norm(block.norm1, x), self._patch_rotation)
            x = x + block.mlp(_norm(block.norm2, x))
        merged = _norm(visual.merger.ln_q, x).reshape(*patches.shape[:2], -1, MERGE * MERGE * x.shape[-1])
        features: Tensor = visual.merger.mlp(merged)
        return features

    def _insert(self, embeddings: Tensor, features: Tensor) -> Tensor:
        """Embeddings with each picture's features in place of its image tokens."""
        features = features.to(embeddings.dtype)
        parts, done = [], 0
        for picture, start in enumerate(self._starts):
            parts += [embeddings[:, done:start], features[:, picture]]
            done = start + features.shape[2]
        return torch.cat([*parts, embeddings[:, done:]], 1)


def _norm(norm: Any, x: Tensor) -> Tensor:
    """The library's root-mean-square norm in one kernel."""
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _vision_attention(attention: Any, x: Tensor, rotation: Rotation) -> Tensor:
    """Attention of every patch [N, PATCHES, width] to all of its picture."""
    heads = attention.qkv(x).unflatten(-1, (3 * attention.num_heads, -1)).transpose(1, 2)
    turned, value = heads.split((2 * attention.num_heads, attention.num_heads), 1)
    query, key = _rotate(turned, rotation).chunk(2, 1)
    mixed = F.scaled_dot_product_attention(query, key, value)
    output: Tensor = attention.proj(mixed.transpose(1, 2).flatten(2))
    return output


def _text_attention(attention: Any, x: Tensor, rotation: Rotation) -> Tensor:
    """Causal attention of [B, S, HIDDEN]; each head of keys and values serves several of queries."""
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([each.weight for each in projections]), torch.cat([each.bias for each in projections])
    heads = F.linear(x, weight, bias).view(*x.shape[:2], -1, attention.head_dim).transpose(1, 2)
    queries, keys = (each.out_features // attention.head_dim for each in projections[:2])
    turned, value = _rotate(heads[:, : queries + keys], rotation), heads[:, queries + keys :]
    query, key = turned[:, :queries], turned[:, queries:]
    key, value = (each.repeat_interleave(queries // keys, 1) for each in (key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    output: Tensor = attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return output
