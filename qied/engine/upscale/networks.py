"""The two architectures of upscaling models, as BasicSR names their parts; pictures are RGB, 0..1, [N, 3, H, W].

RRDB: Wang et al. 2018, https://arxiv.org/abs/1809.00219, with the pixel-unshuffle of Real-ESRGAN (2021,
https://arxiv.org/abs/2107.10833), whose compact network is the other one.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from qied.planning.edits.upscaling import UpscalerFacts

_SLOPE: Final = 0.2
_RESIDUAL: Final = 0.2


def network_of(facts: UpscalerFacts) -> nn.Module:
    """The network that a file with these facts has the weights of, on no device yet."""
    with torch.device("meta"):
        return Rrdb(facts) if facts.architecture == "rrdb" else Compact(facts)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made."""

    conv5: nn.Conv2d

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 6):
            out = features if number == 5 else growth
            setattr(self, f"conv{number}", nn.Conv2d(features + (number - 1) * growth, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """A change of ``x``, added to it."""
        seen = x
        for number in range(1, 5):
            made = functional.leaky_relu(getattr(self, f"conv{number}")(seen), _SLOPE, inplace=True)
            seen = torch.cat((seen, made), 1)
        return torch.add(x, self.conv5(seen), alpha=_RESIDUAL)


class ResidualBlock(nn.Module):
    """Three dense blocks: the RRDB."""

    rdb1: DenseBlock
    rdb2: DenseBlock
    rdb3: DenseBlock

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for number in (1, 2, 3):
            setattr(self, f"rdb{number}", DenseBlock(features, growth))

    def forward(self, x: Tensor) -> Tensor:
        """A change of ``x``, added to it."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=_RESIDUAL)


class Rrdb(nn.Module):
    """ESRGAN's generator."""

    def __init__(self, facts: UpscalerFacts) -> None:
        super().__init__()
        width = facts.features
        self.shuffle, self.doublings = facts.shuffle, facts.doublings
        self.conv_first = nn.Conv2d(3 * facts.shuffle**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width, facts.growth) for _ in range(facts.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for number in range(1, facts.doublings + 1):
            setattr(self, f"conv_up{number}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """The pictures at ``scale`` times their sides, which are multiples of ``shuffle``."""
        first = self.conv_first(functional.pixel_unshuffle(pictures, self.shuffle))
        made = first + self.conv_body(self.body(first))
        for number in range(1, self.doublings + 1):
            doubled = functional.interpolate(made, scale_factor=2, mode="nearest")
            made = functional.leaky_relu(getattr(self, f"conv_up{number}")(doubled), _SLOPE, inplace=True)
        last: Tensor = self.conv_last(functional.leaky_relu(self.conv_hr(made), _SLOPE, inplace=True))
        return last


class Compact(nn.Module):
    """Real-ESRGAN's compact network: plain convolutions whose result is added to the enlarged picture."""

    def __init__(self, facts: UpscalerFacts) -> None:
        super().__init__()
        self.scale = facts.scale
        layers: list[nn.Module] = []
        for index in range(facts.blocks + 1):
            layers += [nn.Conv2d(3 if index == 0 else facts.features, facts.features, 3, padding=1)]
            layers += [nn.PReLU(facts.features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(facts.features, 3 * facts.scale**2, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """The pictures at ``scale`` times their sides."""
        made = functional.pixel_shuffle(self.body(pictures), self.scale)
        return made + functional.interpolate(pictures, scale_factor=self.scale, mode="nearest")
