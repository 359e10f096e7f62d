"""A picture as patches for the vision tower, as ComfyUI's ``process_qwen2vl_images`` makes them (version 0.33)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from qied.planning.edits.comfyui import vision_grid

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
_PATCH: Final = 14
_MERGED: Final = 2
_FRAMES: Final = 2


def comfyui_patches(colours: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return patches FP32 [rows * columns, 3 * 2 * 14 * 14] of a picture [height, width, 3] from 0 to 1, and the grid.

    The picture is brought to whole tokens without a filter that shrinks well (bilinear, as there), normalised, and
    doubled to two frames. Patches that become one token lie together; the grid is (rows, columns) of patches.
    """
    height, width = colours.shape[:2]
    across, down = vision_grid((width, height))
    frame = functional.interpolate(
        colours.permute(2, 0, 1).unsqueeze(0), size=(down, across), mode="bilinear", align_corners=False
    )[0]
    normal = (frame - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_DEVIATION)[:, None, None]
    rows, columns = down // _PATCH, across // _PATCH
    split = normal.view(3, rows // _MERGED, _MERGED, _PATCH, columns // _MERGED, _MERGED, _PATCH)
    together = split.permute(1, 4, 2, 5, 0, 3, 6).reshape(rows * columns, 3, 1, _PATCH, _PATCH)
    return together.expand(-1, -1, _FRAMES, -1, -1).reshape(rows * columns, -1), (rows, columns)
