"""Options that there are not: the one that was meant, also by its name in diffusers, OpenAI's API or ComfyUI."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from qied_client.errors import UnknownOption

_LIKENESS: Final = 0.6
_SAME: Final = {
    "steps": ("num_inference_steps", "num_steps", "n_steps", "sampling_steps", "inference_steps", "step_count"),
    "true_cfg_scale": ("guidance_scale", "guidance", "cfg", "cfg_scale", "true_cfg", "true_guidance_scale"),
    "negative_prompt": ("negative", "neg_prompt", "uncond", "negative_text"),
    "seed": ("generator", "noise_seed", "manual_seed", "random_seed", "rng"),
    "mask": ("mask_image", "inpaint_mask", "mask_images"),
    "loras": (
        *("lora", "lora_name", "lora_names", "lora_scale", "lora_weight", "lora_weights", "lora_strength"),
        *("strength_model", "adapters", "adapter_weights", "cross_attention_kwargs", "joint_attention_kwargs"),
    ),
    "output_format": ("format", "image_format", "filename_extension"),
    "precision": ("dtype", "torch_dtype", "weight_dtype", "quantization"),
    "previews": ("preview", "partial_images", "stream"),
    "redraw": ("inpaint", "detailer", "adetailer", "region", "regions", "padding_mask_crop"),
    "refine": ("refiner", "hires_fix", "highres_fix", "denoising_end"),
    "canvas": ("init_image", "start_image", "base_image"),
    "align": ("register", "registration", "alignment"),
    "compat": ("compatibility", "comfyui", "parity"),
}
_FIRST: Final = "Pictures are the first argument: edit(picture, prompt), or edit([picture, picture], prompt)."
_NO_NOISE: Final = (
    "An edit starts from noise, so it has no strength: say in the prompt how much to change, or give a mask. A second "
    "pass has one: refine=0.2, or redraw={'box': (left, top, width, height), 'strength': 0.5}."
)
_SCHEDULE: Final = "The schedule belongs to the model, a preset or a Lightning LoRA: choose a preset."
_PROGRESS: Final = "Progress is told to on_progress= of edit() and result(), and by the job's events()."
_EMBEDDED: Final = "Prompts are text, and the daemon encodes them: give the prompt."
_OTHERWISE: Final = {
    **dict.fromkeys(("image", "images", "picture", "pictures", "input_image", "input", "image1"), _FIRST),
    **dict.fromkeys(("strength", "denoise", "denoising_strength", "image_guidance_scale"), _NO_NOISE),
    **dict.fromkeys(("sampler", "sampler_name", "scheduler", "sigmas", "timesteps", "shift", "schedule"), _SCHEDULE),
    **dict.fromkeys(("callback", "callback_on_step_end", "callback_steps", "progress"), _PROGRESS),
    **dict.fromkeys(("prompt_embeds", "negative_prompt_embeds", "prompt_embeds_mask"), _EMBEDDED),
    "resolution": "Give width= and height= in pixels, such as width=1024, height=1024.",
    "aspect_ratio": "Give width= and height= in pixels, such as width=1024, height=1024.",
    "latents": "Give a seed: the daemon draws the noise from it.",
    "num_images_per_prompt": "Give n= to edit(): that many results, of seeds that follow each other.",
    "num_images": "Give n= to edit(): that many results, of seeds that follow each other.",
    "batch_size": "Give n= to edit(): that many results, of seeds that follow each other.",
    "n": "n= is an argument of a client's edit() only.",
    "quality": "Choose a preset; the quality of a JPEG is an argument of Result.save().",
    "output_compression": "Results are lossless; Result.save(path, quality=80) compresses a JPEG or WebP.",
    "output_type": "A Result has .bytes, .image (of Pillow) and .save(path).",
    "response_format": "A Result has .bytes, .image (of Pillow) and .save(path).",
    "return_dict": "A Result has .bytes, .image (of Pillow) and .save(path).",
    "input_fidelity": "Say in the prompt what must stay, or give a mask.",
    "moderation": "The daemon judges no pictures.",
    "model": "A daemon serves one model: Client.welcome.model names it.",
    "user": "The key file says who you are: Client(credential).",
    "device": "The daemon's owner chooses the cards.",
    "max_sequence_length": "Prompts may have 8000 bytes of UTF-8.",
    "timeout": "timeout= is an argument of edit() and of a job's result().",
    "on_progress": "on_progress= is an argument of edit(), submit() and of a job's result().",
    "job_id": "job_id= is an argument of submit().",
    "base": "base= is an argument of a session's edit() and submit().",
    "session": "Turns are edits of a session: client.session(picture).edit(prompt).",
    "session_id": "Turns are edits of a session: client.session(picture).edit(prompt).",
}
_BY_FOREIGN_NAME: Final = {foreign: name for name, others in _SAME.items() for foreign in others}
_HOW: Final = {
    "generator": "Give seed=, an integer: the daemon draws the noise itself.",
    "stream": "Give previews=True, and on_progress= to edit().",
    "partial_images": "Give previews=True, and on_progress= to edit().",
}


def unknown_option(name: str, known: Iterable[str]) -> UnknownOption:
    """The error for an option that is not one of ``known``; ``details["nearest"]`` is what was meant, or None."""
    message = f"There is no option {name!r}."
    key = name.lower()
    if key in _OTHERWISE:
        return UnknownOption(message, _OTHERWISE[key], field=name, nearest=None)
    nearest = _BY_FOREIGN_NAME.get(key)
    if nearest is not None:
        return UnknownOption(message, _HOW.get(key, f"Here it is {nearest}."), field=name, nearest=nearest)
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=_LIKENESS)
    close = close or difflib.get_close_matches(key, [*_BY_FOREIGN_NAME], n=1, cutoff=0.8)
    if close:
        nearest = _BY_FOREIGN_NAME.get(close[0], close[0])
        return UnknownOption(message, f"Did you mean {nearest}?", field=name, nearest=nearest)
    return UnknownOption(message, f"Options are {', '.join(names)}.", field=name, nearest=None)
