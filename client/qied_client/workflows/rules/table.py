"""Every class that means something here, with its rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from qied_client.workflows.evaluating import Here
from qied_client.workflows.rules import (
    latents,
    loaders,
    masks,
    numbers,
    own,
    pictures,
    prompts,
    resizing,
    results,
    sampling,
)

RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    **numbers.RULES,
    **loaders.RULES,
    **prompts.RULES,
    **pictures.RULES,
    **resizing.RULES,
    **masks.RULES,
    **latents.RULES,
    **sampling.RULES,
    **results.RULES,
    **own.RULES,
}
SAVES: Final = ("SaveImage", "SaveImageAdvanced", "SaveImageWebsocket", "Image Save", "Image Saver")
"""Classes that save a picture; the input is ``images``."""
PREVIEWS: Final = ("PreviewImage",)
"""Classes that show one; they count where nothing saves the same picture."""
UNDERSTOOD: Final = (*RULES, *SAVES, *PREVIEWS)
