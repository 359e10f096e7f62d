"""Upscaling models of other architectures, by the package spandrel (the extra ``upscalers``).

https://github.com/chaiNNer-org/spandrel tells an architecture by its tensors, and has the networks. It imports
torchvision for two networks that upscale nothing (LaMa, RestoreFormer). The torchvision of the public index does not
work with builds of torch from elsewhere, so names that those two ask for stand in for it while spandrel is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, Final

from qied_client.errors import ModelUnsupported
from torch import Tensor, nn

from qied.planning.edits.upscaling import UpscalerFacts

_PURPOSES: Final = ("SR", "Restoration")
_STOOD_IN_FOR: Final = {
    "torchvision": (),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("InterpolationMode", "rotate", "normalize"),
}


class SpandrelNetwork(nn.Module):
    """A network of spandrel's; pictures are RGB, 0..1, [N, 3, H, W] of any size, and so is what it makes of them."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network = descriptor.model
        self._descriptor = descriptor

    @property
    def precisions(self) -> tuple[str, ...]:
        """Half precisions that spandrel says the architecture may run in."""
        half, brain = self._descriptor.supports_half, self._descriptor.supports_bfloat16
        return (*(["fp16"] if half else []), *(["bf16"] if brain else []))

    def forward(self, pictures: Tensor) -> Tensor:
        """The pictures at ``scale`` times their sides."""
        made: Tensor = self._descriptor(pictures)
        return made


def spandrel_network(state: dict[str, Tensor], file: str) -> tuple[SpandrelNetwork, UpscalerFacts]:
    """The network of these tensors on the CPU, FP32, and its facts but for what it takes. Raises ModelUnsupported."""
    spandrel = _spandrel()
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError:
        raise _refused(file, "spandrel knows no architecture with its tensors") from None
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise _refused(file, f"spandrel cannot load it ({type(error).__name__})") from None
    name = descriptor.architecture.name
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose not in _PURPOSES:
        raise _refused(file, f"{name} is for {descriptor.purpose}")
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise _refused(file, f"it is not for pictures in colour ({descriptor.input_channels} channels)")
    if descriptor.tiling is spandrel.ModelTiling.INTERNAL or descriptor.size_requirements.square:
        raise _refused(file, f"{name} cannot be run in tiles")
    network = SpandrelNetwork(descriptor.eval())
    parameters = sum(each.numel() for each in network.parameters())
    return network, UpscalerFacts(name, descriptor.scale, 0, 0, 0, 1, parameters)


def _refused(file: str, why: str) -> ModelUnsupported:
    return ModelUnsupported(f"{file} cannot be used as an upscaler: {why}.", "Take another, or remove the file.")


@cache
def _spandrel() -> Any:
    """The package; raises ImportError where it is not installed."""
    try:
        import torchvision.transforms.functional  # noqa: F401 (the real one, where it works)
    except (ImportError, RuntimeError, OSError):
        with _stand_in():
            import spandrel
    else:
        import spandrel
    return spandrel


@contextmanager
def _stand_in() -> Iterator[None]:
    """Modules in the place of torchvision's; later imports find none of them."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torchvision"}
    for name in kept:
        del sys.modules[name]
    for name, attributes in _STOOD_IN_FOR.items():
        module = ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in _STOOD_IN_FOR:
            del sys.modules[name]
