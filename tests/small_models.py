"""Small models of every kind that is served: the built-in model's weights and sizes, run as the real ones are."""

from __future__ import annotations

import json
from pathlib import Path

from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles, versions
from qied.resources import builtin_model_folder, profiles_folder


def small_profile(version: str, **changes: object) -> ModelProfile:
    """What differs between the real models, with the sizes of the built-in one."""
    real, small = versions()[version], shipped_profiles()["builtin"]
    sees_all = real.geometry.vision_pixels == real.geometry.vae_pixels
    vision = small.geometry.vae_pixels if sees_all else small.geometry.vision_pixels
    size = (256, 256) if any(real.geometry.default_size) else (0, 0)
    geometry = small.geometry.model_copy(
        update={
            "vision_pixels": vision,
            "max_references": real.geometry.max_references,
            "default_size": size,
        }
    )
    alike = {"geometry": geometry, "architecture": small.architecture, "max_prompt_tokens": small.max_prompt_tokens}
    return real.model_copy(update={**alike, **changes})


def small_model(folder: Path, version: str) -> Path:
    """A pipeline folder as the real model's is: links to the built-in model's files, and configurations of its own."""
    real, source = versions()[version], builtin_model_folder()
    folder.mkdir(parents=True)
    index = json.loads((source / "model_index.json").read_text())
    parts = [name for name in ("text_encoder", "vae", "tokenizer", "processor", "scheduler") if name in index]
    if not real.geometry.takes_pictures:
        parts.remove("processor")
        del index["processor"]
    index["_class_name"] = real.pipeline
    (folder / "model_index.json").write_text(json.dumps(index))
    for part in parts:
        (folder / part).symlink_to(source / part)
    (folder / "transformer").mkdir()
    for file in (source / "transformer").iterdir():
        (folder / "transformer" / file.name).symlink_to(file)
    config = folder / "transformer" / "config.json"
    config.unlink()
    settings = json.loads((source / "transformer" / "config.json").read_text())
    settings.pop("zero_cond_t")
    config.write_text(json.dumps(settings | ({"zero_cond_t": True} if real.zero_cond_t else {})))
    return folder


SMALL_TEMPLATE_TOKENS = 55
"""Of the template for pictures from text alone, in the built-in model's vocabulary."""


def text_to_image_profile(path: Path) -> Path:
    """A profile for ``small_model(..., "2512")``: what the real one says, with the built-in model's sizes."""
    text = (profiles_folder() / "models" / "builtin.toml").read_text(encoding="utf-8")
    real = versions()["2512"]
    head, template, rest = text.partition("[template]")
    _, geometry, rest = rest.partition("[geometry]")
    head = head.replace('name = "builtin"', 'name = "small-from-text"').replace("= 64", f"= {SMALL_TEMPLATE_TOKENS}")
    head += f'version = "2512"\npipeline = "{real.pipeline}"\nzero_cond_t = false\n\n'
    system = f"{template}\nsystem = {json.dumps(real.template.system)}\n\n"
    rest = rest.replace("max_references = 3", "max_references = 0\ndefault_size = [192, 128]")
    path.write_text(head + system + geometry + rest, encoding="utf-8")
    return path
