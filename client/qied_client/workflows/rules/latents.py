"""Latents: the size of a result, what it begins from, and what of it is drawn; and results decoded from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here
from qied_client.workflows.files import MaskFile
from qied_client.workflows.rules.masks import grown

_OWN_SEEDS: Final = "After the first, results have seeds of their own; ComfyUI draws all noise from one."
_LATENT_PX: Final = 8
"""ComfyUI's VAE cuts pictures to multiples of it."""


def _empty(here: Here) -> object:
    size = here.integer("width"), here.integer("height")
    count = here.integer("batch_size", 1)
    here.became(f"a result of {size[0]} x {size[1]} pixels{_times(count)}", _OWN_SEEDS if count > 1 else "")
    return v.Latents(size, here.id, count)


def _of_picture(here: Here) -> object:
    shown, _ = here.together(lambda: here.take("pixels", v.Shown), lambda: here.take("vae", v.Autoencoder))
    return _begun(here, shown)


def _begun(here: Here, shown: v.Shown, mask: MaskFile | None = None) -> v.Latents:
    size = None if shown.size is None else _whole(shown.size)
    told = f"of {size[0]} x {size[1]} pixels" if size is not None else "of the picture's size"
    here.became(f"a result {told}{', drawn where the mask marks' if mask else ''}")
    return v.Latents(size, here.id, start=shown, mask=mask)


def _whole(size: v.Size) -> v.Size:
    width, height = (max(_LATENT_PX, side // _LATENT_PX * _LATENT_PX) for side in size)
    return width, height


def _repeated(here: Here) -> object:
    latents, amount = here.take("samples", v.Latents), here.integer("amount", 1)
    here.became(f"a result{_times(latents.count * amount)}", _OWN_SEEDS if amount > 1 else "")
    return replace(latents, count=latents.count * amount)


def _masked(here: Here) -> object:
    latents, mask = here.together(
        lambda: here.take("samples", v.Latents), lambda: marking(here, here.take("mask", MaskFile))
    )
    if latents.start is None:
        here.refuse("a mask on empty latents.", "Begin from a picture with VAEEncode.", input="samples")
    here.became("a result drawn where the mask marks", _KEPT)
    return replace(latents, mask=mask)


def _inpainting(here: Here) -> object:
    """A prompt twice and latents; ``noise_mask`` says whether the mask counts, as no inpainting model is served."""
    positive, negative, shown, mask = here.together(
        lambda: here.take("positive", v.Prompt),
        lambda: here.take("negative", v.Prompt),
        lambda: here.take("pixels", v.Shown),
        lambda: marking(here, here.take("mask", MaskFile)),
    )
    return positive, negative, _begun(here, shown, mask if here.flag("noise_mask", True) else None)


def _inpainted(here: Here) -> object:
    shown, mask = here.together(
        lambda: here.take("pixels", v.Shown), lambda: marking(here, here.take("mask", MaskFile))
    )
    by = here.integer("grow_mask_by", 6)
    return _begun(here, shown, grown(here, mask, by // 2, tapered=False, given="grow_mask_by"))


def marking(here: Here, mask: MaskFile) -> MaskFile:
    """The mask; raises Refused where it is the alpha of a file that has none, and so marks nothing or everything."""
    if mask.channel == "alpha" and here.opacity(mask.name) is False:
        here.refuse(
            f"{mask.name} has no transparency, so its mask marks nothing.",
            "Paint a mask in ComfyUI (Open in MaskEditor), or take the mask's node out.",
            input="mask",
        )
    return mask


_KEPT: Final = "Outside of the mask the picture stays as it is to the pixel; ComfyUI decodes all of it again."


def _decoded(here: Here) -> object:
    edit, _ = here.together(lambda: _drawn(here), lambda: here.take("vae", v.Autoencoder))
    here.became("the result")
    return v.Result(edit)


def _drawn(here: Here) -> v.Edit:
    found = here.take("samples", v.Edit, v.Latents)
    if isinstance(found, v.Latents):
        here.refuse("it decodes what nothing was drawn in.", "Put a KSampler before it.", input="samples")
    return found


def _times(count: int) -> str:
    return f", {count} times" if count > 1 else ""


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "EmptyLatentImage": _empty,
    "EmptySD3LatentImage": _empty,
    "VAEEncode": _of_picture,
    "VAEEncodeTiled": _of_picture,
    "VAEEncodeForInpaint": _inpainted,
    "InpaintModelConditioning": _inpainting,
    "RepeatLatentBatch": _repeated,
    "SetLatentNoiseMask": _masked,
    "VAEDecode": _decoded,
    "VAEDecodeTiled": _decoded,
}
