"""A daemon that serves ComfyUI's single files: from the folder to a picture, and what it says where it must not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qied.resources import builtin_model_folder
from tests.checkpoints.files import comfyui

PICTURE = builtin_model_folder().parent / "demo.png"


@pytest.fixture(scope="module")
def edited(tmp_path_factory, daemon_process):
    """The pixels of one edit by a daemon that serves this model."""

    def edit(model: str) -> np.ndarray:
        daemon = daemon_process(tmp_path_factory.mktemp("home"), engine="qied.engine.serving:load")
        daemon.model = model
        daemon.start()
        with daemon.client(patience=60.0) as client:
            result = client.edit(PICTURE, "make the red heart blue", seed=0, steps=4)
        assert daemon.stop() == 0
        return np.asarray(Image.open(io.BytesIO(result.bytes)).convert("RGB")).astype(int)

    return edit


@pytest.fixture(scope="module")
def of_the_folder(edited) -> np.ndarray:
    return edited("builtin")


# NVFP4, MXFP8 and BF16 by turns, in the text encoder as well.
@pytest.mark.parametrize("flavour", ["bf16", "fp8_scaled", "nvfp4_mixed"])
def test_an_edit_by_comfyuis_files_is_that_of_the_folder_they_were_made_from(
    tmp_path: Path, edited, of_the_folder: np.ndarray, flavour: str
) -> None:
    files = edited(str(comfyui(tmp_path / "ComfyUI", flavour, flavour, prefix="model.diffusion_model.")))
    assert files[120, 128][2] > 180 > files[120, 128][0], "the heart turned blue"
    if flavour == "bf16":
        assert np.array_equal(files, of_the_folder)
    else:
        assert 0 < np.abs(files - of_the_folder).mean() < (8 if flavour == "nvfp4_mixed" else 2)


def test_a_transformer_that_nobody_vouches_for_is_not_served(tmp_path: Path, daemon_process) -> None:
    path = comfyui(tmp_path / "ComfyUI", marked=False)
    daemon = daemon_process(tmp_path / "home", engine="qied.engine.serving:load")
    daemon.model = str(path)
    daemon.start_unready()
    assert daemon.wait() != 0
    said = " ".join(str(line) for line in daemon.log)
    assert "2509 or 2511" in said and "--model-version 2511" in said
