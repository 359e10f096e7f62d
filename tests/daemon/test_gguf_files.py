"""A daemon that serves GGUF files and all-in-one checkpoints: from the folder to a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qied.resources import builtin_model_folder
from qied.weights.header import read_header
from tests.checkpoints.all_in_one_files import comfyui_of_one_file, encoder_part, transformer_part, vae_part
from tests.checkpoints.files import save
from tests.checkpoints.gguf_model import comfyui_gguf

PICTURE = builtin_model_folder().parent / "demo.png"


@pytest.fixture(scope="module")
def edited(tmp_path_factory, daemon_process):
    """The pixels of one edit by a daemon that serves this model."""

    def edit(model: str) -> np.ndarray:
        home = tmp_path_factory.mktemp("home")
        daemon = daemon_process(home, engine="qied.engine.serving:load", QIED_MODEL_VERSION="2511")
        daemon.model = model
        daemon.start()
        with daemon.client(patience=60.0) as client:
            result = client.edit(PICTURE, "make the red heart blue", seed=0, steps=4, true_cfg_scale=1.0)
        assert daemon.stop() == 0
        return np.asarray(Image.open(io.BytesIO(result.bytes)).convert("RGB")).astype(int)

    return edit


@pytest.fixture(scope="module")
def of_the_folder(edited) -> np.ndarray:
    return edited(str(builtin_model_folder()))


MIXED = "Q4_K Q6_K IQ4_XS Q5_K Q3_K Q8_0 Q5_1"
"""As files of a "mixture" have several types, and others where rows are too short for them."""


@pytest.mark.parametrize("kind", ["BF16", MIXED])
def test_an_edit_by_gguf_files_is_near_that_of_the_folder_they_were_made_from(
    tmp_path: Path, edited, of_the_folder: np.ndarray, kind: str
) -> None:
    path = comfyui_gguf(tmp_path / "ComfyUI", kind, kind)
    held = {entry.dtype for entry in read_header(path).tensors.values()}
    assert held >= set(kind.split())
    files = edited(str(path))
    assert files[120, 128][2] > 180 > files[120, 128][0], "the heart turned blue"
    if kind == "BF16":
        assert np.array_equal(files, of_the_folder)
    else:
        assert 0 < np.abs(files - of_the_folder).mean() < 4


def test_a_comfyui_folder_of_gguf_files_is_served(tmp_path: Path, edited, of_the_folder: np.ndarray) -> None:
    comfyui_gguf(tmp_path / "ComfyUI", "BF16", "BF16")
    assert np.array_equal(edited(str(tmp_path / "ComfyUI")), of_the_folder)


OLD, NEW = ("text_encoders.qwen25_7b.transformer.", "vae."), ("cond_stage_model.qwen25_7b.", "first_stage_model.")
"""What stands before the names of a text encoder and of a VAE."""


@pytest.mark.parametrize(("flavour", "spelling"), [("bf16", OLD), ("fp8_plain", NEW)])
def test_one_file_with_all_parts_gives_the_pixels_of_three(
    tmp_path: Path, edited, flavour: str, spelling: tuple[str, str]
) -> None:
    text, vae = spelling
    one = comfyui_of_one_file(tmp_path / "one", flavour=flavour, marked=False, text=text, vae=vae)
    models = tmp_path / "three" / "models"
    transformer = models / "diffusion_models" / "qwen_image_edit_2511.safetensors"
    encoder = "fp8_plain" if flavour.startswith("fp8") else flavour
    save(transformer, transformer_part(flavour, marked=False), {})
    save(models / "text_encoders" / "encoder.safetensors", encoder_part(encoder), {})
    save(models / "vae" / "vae.safetensors", vae_part(), {})
    expected = edited(str(transformer))
    # Of the first one its folder is named, which leads to it.
    assert np.array_equal(edited(str(tmp_path / "one" if spelling is OLD else one)), expected)
