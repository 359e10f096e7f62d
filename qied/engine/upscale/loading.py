"""From an upscaling model's file to its network, of qied's own architectures or of spandrel's."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from qied_client.errors import ModelUnsupported
from qied_client.installing import install_extra
from torch import Tensor, nn

from qied.engine.upscale.networks import network_of
from qied.engine.upscale.spandrel_models import spandrel_network
from qied.engine.upscale.state import read_state
from qied.planning.edits.upscaling import UpscalerFacts
from qied.upscalers.contents import new_names, read_facts


def load_network(path: Path) -> tuple[nn.Module, UpscalerFacts]:
    """The network of a file on the CPU, FP32, for inference, and its facts; those of others' lack what it takes.

    Raises ModelUnsupported, also where spandrel is needed and not installed, and OSError.
    """
    facts = read_facts(path)
    network: nn.Module
    if facts is not None:
        network = network_of(facts)
        network.load_state_dict(_renamed(read_state(path)), assign=True)
    elif find_spec("spandrel") is None:
        raise ModelUnsupported(
            f"{path.name} is of an architecture that only the package spandrel may know.",
            f"Install it: {install_extra('qied[upscalers]')}",
        )
    else:
        network, facts = spandrel_network(_read(path), path.name)
    return network.requires_grad_(False).eval(), facts


def same_model(found: UpscalerFacts, known: UpscalerFacts) -> bool:
    """Whether a file holds the model that it held when the daemon started, as far as its facts tell."""
    return found == replace(known, pixel_bytes=0, measured_bytes=0, pixel_operations=0)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = new_names(state)
    return {names[name]: value for name, value in state.items()}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return read_state(path)
    except Exception as error:
        if isinstance(error, OSError):
            raise
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}" if str(error) else type(error).__name__
        raise ModelUnsupported(
            f"{path.name} cannot be used as an upscaler: it cannot be read ({reason}).",
            "Take the model as .safetensors, or remove the file.",
        ) from None
