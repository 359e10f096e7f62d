"""Where the files that ship with qied lie: in the wheel, or in the checkout of a developer."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def profiles_folder() -> Path:
    """Folder of the shipped profiles: inside the package once installed, next to it in a checkout."""
    installed = _PACKAGE / "profiles"
    return installed if installed.is_dir() else _PACKAGE.parent / "profiles"


def builtin_folder() -> Path:
    """Folder of the built-in model with its LoRAs, and with its tiny autoencoder in ``vae_approx``."""
    return _PACKAGE / "builtin"


def builtin_loras_folder() -> Path:
    """Folder of the LoRAs that come with the built-in model; it need not be there."""
    return builtin_folder() / "loras"


def builtin_upscalers_folder() -> Path:
    """Folder of the upscaling models that come with the built-in model."""
    return builtin_folder() / "upscalers"


def builtin_model_folder() -> Path:
    """Folder of the built-in model, in diffusers' pipeline layout."""
    return builtin_folder() / "model"


def model_configuration(profile: str) -> Path | None:
    """Folder with the configurations of a model's parts, laid out as by diffusers: single files come without them.

    None where a profile of this name does not ship.
    """
    if profile == "builtin":
        return builtin_model_folder()
    folder = profiles_folder() / "models" / profile
    return folder if folder.is_dir() else None
