"""A daemon that serves GGUF files and all-in-one checkpoints: from the folder to a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qied.resources import builtin_model_folder
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


@pytest.mark.parametrize("kind", ["BF16", "Q8_0", "Q5_1"])
def test_an_edit_by_gguf_files_is_near_that_of_the_folder_they_were_made_from(
    tmp_path: Path, edited, of_the_folder: np.ndarray, kind: str
) -> None:
    files = edited(str(comfyui_gguf(tmp_path / "ComfyUI", kind, kind)))
    assert files[120, 128][2] > 180 > files[120, 128][0], "the heart turned blue"
    if kind == "BF16":
        assert np.array_equal(files, of_the_folder)
    else:
        assert 0 < np.abs(files - of_the_folder).mean() < 4


def test_a_comfyui_folder_of_gguf_files_is_served(tmp_path: Path, edited, of_the_folder: np.ndarray) -> None:
    comfyui_gguf(tmp_path / "ComfyUI", "BF16", "BF16")
    assert np.array_equal(edited(str(tmp_path / "ComfyUI")), of_the_folder)


@pytest.mark.parametrize("flavour", ["bf16", "fp8_plain"])
def test_one_file_with_all_parts_gives_the_pixels_of_three(tmp_path: Path, edited, flavour: str) -> None:
    one = comfyui_of_one_file(tmp_path / "one", flavour=flavour, marked=False)
    models = tmp_path / "three" / "models"
    transformer = models / "diffusion_models" / "qwen_image_edit_2511.safetensors"
    encoder = "fp8_plain" if flavour.startswith("fp8") else flavour
    save(transformer, transformer_part(flavour, marked=False), {})
    save(models / "text_encoders" / "encoder.safetensors", encoder_part(encoder), {})
    save(models / "vae" / "vae.safetensors", vae_part(), {})
    expected = edited(str(transformer))
    assert np.array_equal(edited(str(one)), expected)
    assert np.array_equal(edited(str(tmp_path / "one")), expected)
