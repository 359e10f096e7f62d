"""Prompts: their text, and the pictures that they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from qied_client.workflows import values as v
from qied_client.workflows.evaluating import Here

_SLOTS: Final = ("image1", "image2", "image3")
_BRACES: Final = re.compile(r"(?<!\\)\{[^{}]*\|[^{}]*\}")
_METHOD: Final = "index_timestep_zero"


def _text(here: Here) -> object:
    _, text = here.together(lambda: here.take("clip", v.TextEncoder), lambda: here.text("text"))
    here.became(_told(text), _choice(text))
    return v.Prompt(text, here.id)


def _one_picture(here: Here) -> object:
    return _with_pictures(here, ("image",))


def _several_pictures(here: Here) -> object:
    return _with_pictures(here, _SLOTS)


def _with_pictures(here: Here, slots: tuple[str, ...]) -> v.Prompt:
    connected = [name for name in slots if here.given(name)]
    _, text, vae, *pictures = here.together(
        lambda: here.take("clip", v.TextEncoder),
        lambda: here.text("prompt"),
        lambda: here.take("vae", v.Autoencoder, default=None),
        *(lambda name=name: here.take(name, v.Shown) for name in connected),
    )
    differs = [_choice(text)] if _choice(text) else []
    if connected != list(slots[: len(connected)]):
        differs.append("Pictures are counted from 1 without gaps; ComfyUI counts the inputs.")
    if pictures and vae is None:
        differs.append(
            "The VAE sees the pictures as well; without its link, ComfyUI shows them to the text encoder alone."
        )
    here.became(f"{_told(text)}, {_pictures(len(pictures))}", " ".join(differs))
    return v.Prompt(text, here.id, tuple(pictures), tuple(pictures))


def _reference(here: Here) -> object:
    prompt, latents = here.together(
        lambda: here.take("conditioning", v.Prompt), lambda: here.take("latent", v.Latents, default=None)
    )
    if latents is None or latents.start is None:
        here.became("nothing: it has no picture")
        return prompt
    if latents.start.file in [shown.file for shown in prompt.kept]:
        here.became("nothing: the prompt has this picture already")
        return prompt
    seen = latents.start.file in [shown.file for shown in prompt.read]
    here.became(
        "a picture of the prompt",
        "" if seen else "The text encoder sees this picture as well; in ComfyUI the VAE alone does.",
    )
    read = prompt.read if seen else (*prompt.read, latents.start)
    return replace(prompt, read=read, kept=(*prompt.kept, latents.start))


def _method(here: Here) -> object:
    prompt = here.take("conditioning", v.Prompt)
    method = here.text("reference_latents_method", _METHOD)
    here.became(
        "as the model's own version has it",
        ""
        if method == _METHOD
        else f"References are placed as {_METHOD} does it, not {method}, where the model is 2511.",
    )
    return prompt


def _zeroed(here: Here) -> object:
    prompt = here.take("conditioning", v.Prompt)
    here.became("no prompt", "Where guidance is on, an empty prompt stands for zeros.")
    return replace(prompt, text="", zeroed=True)


def _choice(text: str) -> str:
    """That ComfyUI's page would take one of several words at random."""
    return (
        "Words in braces stay as they are; ComfyUI's page takes one of them at random." if _BRACES.search(text) else ""
    )


def _told(text: str) -> str:
    return f"the prompt {text[:60]!r}{'...' if len(text) > 60 else ''}" if text.strip() else "an empty prompt"


def _pictures(count: int) -> str:
    return {0: "without a picture", 1: "with one picture"}.get(count, f"with {count} pictures")


RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "CLIPTextEncode": _text,
    "TextEncodeQwenImageEdit": _one_picture,
    "TextEncodeQwenImageEditPlus": _several_pictures,
    "ReferenceLatent": _reference,
    "FluxKontextMultiReferenceLatentMethod": _method,
    "ConditioningZeroOut": _zeroed,
}
