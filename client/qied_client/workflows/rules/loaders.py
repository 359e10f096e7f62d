"""Loaders of weights and nodes that change a model: the daemon has its own files, so names are what counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from qied_client.workflows import values as v
from qied_client.workflows.canvas.widgets import ON_DEVICES
from qied_client.workflows.evaluating import Here


def _transformer(name: str) -> Callable[[Here], object]:
    def rule(here: Here) -> object:
        file = here.text(name)
        here.became(f"the daemon's model, for {file}")
        return v.Model(file, here.id)

    return rule


def _checkpoint(here: Here) -> object:
    file = here.text("ckpt_name")
    here.became(f"the daemon's model, text encoder and VAE, for {file}")
    return v.Model(file, here.id), v.TextEncoder(file), v.Autoencoder(file)


def _text_encoder(here: Here) -> object:
    file, kind = here.text("clip_name"), here.text("type", "qwen_image")
    if kind not in ("qwen_image", ""):
        here.refuse(f"a text encoder of the type {kind!r}.", "Set its type to qwen_image.", input="type")
    here.became("the daemon's text encoder")
    return v.TextEncoder(file)


def _autoencoder(here: Here) -> object:
    here.became("the daemon's VAE")
    return v.Autoencoder(here.text("vae_name"))


def _upscaler(here: Here) -> object:
    file = here.text("model_name")
    here.became(f"the daemon's upscaling model {stem(file)}")
    return v.Upscaler(file, here.id)


def _lora_model_only(here: Here) -> object:
    return _with_lora(here, here.number("strength_model", 1.0))


def _lora(here: Here) -> object:
    model = _with_lora(here, here.number("strength_model", 1.0))
    clip = here.take("clip", v.TextEncoder, default=None)
    if here.number("strength_clip", 1.0) and clip is not None:
        here.became(
            f"the LoRA {stem(here.text('lora_name'))}", "A LoRA changes the transformer alone, not the text encoder."
        )
    return model, clip


def _with_lora(here: Here, strength: float) -> v.Model:
    found = here.together(lambda: here.take("model", v.Model), lambda: here.text("lora_name"))
    model: v.Model = found[0]
    file: str = found[1]
    if not strength or file == "None":
        here.became("nothing: its strength is 0")
        return model
    here.became(f"the LoRA {stem(file)} with strength {strength:g}")
    return replace(model, loras=(*model.loras, v.Lora(file, strength, here.id)))


def _numbered_loras(file: str, strength: str, on: str = "") -> Callable[[Here], object]:
    """The rule of a list of LoRAs whose inputs have numbers: ``lora_01`` and ``strength_01``, and so on."""

    def rule(here: Here) -> object:
        model = here.take("model", v.Model)
        added: list[v.Lora] = []
        most = here.integer("lora_count", _MOST_LORAS)
        for number in range(1, min(most, _MOST_LORAS) + 1) if here.flag("toggle_all", True) else ():
            name = file.format(number)
            if here.given(name) and (not on or here.flag(on.format(number), True)):
                chosen, weight = here.text(name), here.number(strength.format(number), 1.0)
                added += [v.Lora(chosen, weight, here.id)] if weight and chosen != "None" else []
        here.became(f"the LoRAs {', '.join(stem(lora.file) for lora in added)}" if added else "nothing: no LoRA is on")
        return replace(model, loras=(*model.loras, *added)), here.take("clip", v.TextEncoder, default=None)

    return rule


_MOST_LORAS: Final = 32


def _nunchaku_lora(here: Here) -> object:
    return _with_lora(here, here.number("lora_strength", 1.0))


def _power_loras(here: Here) -> object:
    """rgthree's list of LoRAs, whose entries are objects with ``on``, ``lora`` and ``strength``."""
    model = here.take("model", v.Model)
    added = [lora for name, value in here.node.inputs.items() if (lora := _entry(here, name, value)) is not None]
    here.became(f"the LoRAs {', '.join(stem(lora.file) for lora in added)}" if added else "nothing: no LoRA is on")
    return replace(model, loras=(*model.loras, *added)), here.take("clip", v.TextEncoder, default=None)


def _entry(here: Here, name: str, value: Any) -> v.Lora | None:
    if not (name.lower().startswith("lora_") and isinstance(value, Mapping) and value.get("on")):
        return None
    file, strength = value.get("lora"), value.get("strength", 1.0)
    if not isinstance(file, str) or isinstance(strength, bool) or not isinstance(strength, (int, float)):
        here.refuse(f"its entry {name!r} has no LoRA with a strength.", "Choose its LoRA again.", input=name)
    return v.Lora(file, float(strength), here.id) if strength and file != "None" else None


def _shift(here: Here) -> object:
    model = here.take("model", v.Model)
    shift, sampling = here.number("shift", 1.73), here.text("sampling", "flow")
    if sampling != "flow":
        here.refuse(f"the sampling {sampling!r}.", "Set it to flow.", input="sampling")
    here.became(f"a schedule shifted by {shift:g}")
    return replace(model, shift=shift)


def _cfg_norm(here: Here) -> object:
    model = here.take("model", v.Model)
    strength, before = here.number("strength", 1.0), here.flag("pre_cfg", False)
    here.became(
        f"guidance that keeps the prediction's norm, with strength {strength:g}{', before it' if before else ''}"
    )
    return replace(model, cfg_norm=strength, before_cfg=before)


def _only_faster(here: Here) -> object:
    model = here.take("model", v.Model)
    here.became("nothing: it is about how ComfyUI runs the model")
    return model


def _nearly(here: Here) -> object:
    model = here.take("model", v.Model)
    here.became("nothing: every step is computed", "ComfyUI leaves out parts of some steps here.")
    return model


def stem(file: str) -> str:
    """A file's name without folders and suffix; folders are written in either way."""
    name = file.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] if name.lower().endswith(_SUFFIXES) else name


_SUFFIXES: Final = (".safetensors", ".gguf", ".pth", ".pt", ".ckpt", ".bin", ".sft")

_RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    "UNETLoader": _transformer("unet_name"),
    "UnetLoaderGGUF": _transformer("unet_name"),
    "UnetLoaderGGUFAdvanced": _transformer("unet_name"),
    "LoaderGGUF": _transformer("gguf_name"),
    "DiffusionModelLoaderKJ": _transformer("model_name"),
    "NunchakuQwenImageDiTLoader": _transformer("model_name"),
    "CheckpointLoaderSimple": _checkpoint,
    "CheckpointLoader": _checkpoint,
    "CLIPLoader": _text_encoder,
    "CLIPLoaderGGUF": _text_encoder,
    "ClipLoaderGGUF": _text_encoder,
    "VAELoader": _autoencoder,
    "VAELoaderKJ": _autoencoder,
    "VaeGGUF": _autoencoder,
    "UpscaleModelLoader": _upscaler,
    "LoraLoaderModelOnly": _lora_model_only,
    "LoraLoader": _lora,
    "Power Lora Loader (rgthree)": _power_loras,
    "Lora Loader Stack (rgthree)": _numbered_loras("lora_{:02}", "strength_{:02}"),
    "NunchakuQwenImageLoraLoader": _nunchaku_lora,
    **dict.fromkeys(
        [f"NunchakuQwenImageLoraStack{version}" for version in ("", "V1", "V2", "V3")],
        _numbered_loras("lora_name_{}", "lora_strength_{}", "enabled_{}"),
    ),
    "ModelSamplingAuraFlow": _shift,
    "CFGNorm": _cfg_norm,
    "PathchSageAttentionKJ": _only_faster,
    "TorchCompileModel": _only_faster,
    "TorchCompileModelQwenImage": _only_faster,
    "ModelPatchTorchSettings": _only_faster,
    "EasyCache": _nearly,
    "LazyCache": _nearly,
}
RULES: Final[Mapping[str, Callable[[Here], object]]] = {
    **_RULES,
    **{on_devices: _RULES[name] for on_devices, name in ON_DEVICES.items()},
}
