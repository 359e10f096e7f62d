"""How far the VAE's results are from FP32 and from diffusers', and its tiles from the whole on a real picture."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from part_runs.part import Recorder
from part_runs.stopwatch import Stopwatch
from PIL import Image
from torch import Tensor

from qied.engine.engine import Engine, EngineOptions
from qied.engine.vae.vae import Vae
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder
from vae_bench.models import diffusers_decode, diffusers_encode, diffusers_vae, latents, ours, picture
from vae_bench.setting import Setting

SIDE = 1024


def measure(setting: Setting, record: Recorder) -> None:
    """Record relative errors with random weights at full size, and decibels of tiles with the built-in model's."""
    watch = Stopwatch(torch.device(setting.device))
    with torch.inference_mode():
        exact = _of_diffusers(setting, torch.float32)
        watch.clear()
        plain = _of_diffusers(setting, torch.bfloat16)
        watch.clear()
        vae = ours(setting)
        found = {"encode": vae.encode_pixels(picture(setting, SIDE)), "decode": _decoded(vae, latents(setting, SIDE))}
        for way, result in found.items():
            value = {
                "to_fp32": _relative(result, exact[way]),
                "to_diffusers_bf16": _relative(result, plain[way]),
                "of_diffusers_bf16_to_fp32": _relative(plain[way], exact[way]),
            }
            record.put("errors", way, value=value)
        del vae
        watch.clear()
    record.attempt("tiles", measure=partial(_tiles, setting))


def _of_diffusers(setting: Setting, dtype: torch.dtype) -> dict[str, Tensor]:
    model = diffusers_vae(setting, dtype)
    return {
        "encode": diffusers_encode(model, picture(setting, SIDE), dtype),
        "decode": diffusers_decode(model, latents(setting, SIDE), dtype),
    }


def _tiles(setting: Setting) -> dict[str, dict[str, float]]:
    """PSNR of tiled to whole results of the built-in model's trained VAE on the demo picture, in decibels."""
    vae = _trained(setting)
    side = setting.real_side
    demo = Image.open(builtin_model_folder().parent / "demo.png").convert("RGB")
    source = demo.resize((side, side), Image.Resampling.LANCZOS)
    with torch.inference_mode():
        cells = vae.encode(source, source.size)
        whole = vae.decode(cells)
        found = {"there and back": {"whole": _decibels(whole, source)}}
        for tile_px in setting.real_tiles:
            tiled = replace(vae, encode_tile_px=tile_px, decode_tile_px=tile_px)
            found[f"tiles of {tile_px}"] = {
                "decode": _decibels(tiled.decode(cells), whole),
                "encode": _decibels(vae.decode(tiled.encode(source, source.size)), whole),
            }
    return found


def _trained(setting: Setting) -> Vae:
    options = EngineOptions(device=setting.device, dtype="bf16")
    engine: Any = Engine.load(builtin_model_folder(), shipped_profiles()["builtin"], options, lambda *_: None)
    vae: Vae = engine.models.vae
    return vae


def _decoded(vae: Vae, cells: Tensor) -> Tensor:
    """Pixels as diffusers gives them, which keeps them within -1..1."""
    return vae._decode_pixels(cells).clamp(-1, 1)


def _relative(found: Tensor, reference: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - reference) / torch.linalg.vector_norm(reference))


def _decibels(found: Image.Image, reference: Image.Image) -> float:
    error = np.asarray(found, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return round(float(10 * np.log10(255**2 / max((error**2).mean(), 1e-9))), 2)
