"""The text encoder: pictures to vision features, prompt and features to the embeddings that steer the transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from qied.engine.text.patches import comfyui_patches
from qied.engine.text.prompt import Grid, PromptTokens, mrope_positions, plain_positions
from qied.link.engine_port import Picture

TextPositions = Literal["mrope", "plain"]


@dataclass(frozen=True)
class VisionFeatures:
    """One picture as the language model sees it: ``features`` [grid.tokens, hidden] in the model's dtype."""

    features: Tensor
    grid: Grid

    @property
    def nbytes(self) -> int:
        """Bytes of the features."""
        return self.features.nbytes


@dataclass(frozen=True)
class TextEncoder:
    """Qwen2.5-VL without its ``lm_head``, its tokenizer and its picture processor.

    The language model is called with explicit embeddings and positions, so that nothing is read from or left on the
    module (its own forward keeps ``rope_deltas`` between calls). ``processor`` is None for a model that takes no
    pictures. The model lies on ``device``, or is streamed to it by
    ``stream_text_model``; ``embed_tokens`` may be in host memory, and then only the rows of a prompt are copied.
    """

    model: Any
    tokens: PromptTokens
    processor: Any
    device: torch.device
    dtype: torch.dtype
    positions: TextPositions = "mrope"

    def vision_features(self, picture: Picture, size: tuple[int, int]) -> VisionFeatures:
        """Run the vision tower on an RGB picture resized to ``size`` (width, height)."""
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        inputs = self.processor(images=[resized], return_tensors="pt")
        patches = inputs["pixel_values"].to(self.device, self.dtype)
        output = self.model.visual(patches, grid_thw=inputs["image_grid_thw"].to(self.device))
        merge = self.model.visual.spatial_merge_size
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        return VisionFeatures(output.pooler_output, Grid(rows // merge, columns // merge))

    def vision_features_as_comfyui(self, colours: Tensor) -> VisionFeatures:
        """Run the vision tower on a picture FP32 [height, width, 3] from 0 to 1, prepared as ComfyUI does it."""
        patches, grid = comfyui_patches(colours)
        output = self.model.visual(
            patches.to(self.device, self.dtype), grid_thw=torch.tensor([[1, *grid]], device=self.device)
        )
        merge = self.model.visual.spatial_merge_size
        return VisionFeatures(output.pooler_output, Grid(grid[0] // merge, grid[1] // merge))

    def prompt_embeddings(self, prompt: str, pictures: Sequence[VisionFeatures]) -> Tensor:
        """Return embeddings [1, tokens, hidden]: the last hidden state without the template's first tokens."""
        grids = [picture.grid for picture in pictures]
        ids = self.tokens.ids(prompt, grids)
        positions = (
            mrope_positions(ids, self.tokens.image_token, grids) if self.positions == "mrope" else plain_positions(ids)
        )
        output = self.model.language_model(
            inputs_embeds=self._input_embeddings(ids, pictures),
            position_ids=positions.to(self.device),
            use_cache=False,
        )
        embeddings: Tensor = output.last_hidden_state[:, self.tokens.template_tokens :]
        return embeddings.clone()

    def _input_embeddings(self, ids: Sequence[int], pictures: Sequence[VisionFeatures]) -> Tensor:
        """Look up embeddings [1, tokens, hidden] where their table lies, and put in the pictures' features."""
        table = self.model.language_model.embed_tokens
        embeddings: Tensor = table(torch.tensor([ids], device=table.weight.device)).to(self.device, self.dtype)
        places = [place for place, token in enumerate(ids) if token == self.tokens.image_token]
        if pictures:
            features = torch.cat([picture.features for picture in pictures])
            embeddings[0, torch.tensor(places, device=self.device)] = features.to(embeddings.dtype)
        return embeddings
