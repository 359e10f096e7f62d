"""What an upscaling model's file holds: its architecture and scale, told by the names and shapes of its tensors.

Two architectures are told here: RRDB (ESRGAN, Real-ESRGAN), under the names of each of its three code bases, and
compact (Real-ESRGAN's SRVGG with PReLU). Their names here are those of BasicSR's ``RRDBNet`` and ``SRVGGNetCompact``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported

from qied.planning.edits.upscaling import UpscalerFacts
from qied.upscalers.pickled import pickled_shapes
from qied.weights.header import read_header
from qied.weights.problems import BadFile

Shapes = Mapping[str, tuple[int, ...]]

NESTED: Final = ("params_ema", "params", "state_dict", "model_state_dict")
"""Names under which trainers keep the weights, the better ones first."""
PICKLED: Final = (".pth", ".pt")
_OLD_NAMES: Final = (
    (re.compile(r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\."), r"body.\1.rdb\2.conv\3."),
    (re.compile(r"trunk_conv\."), "conv_body."),
    (re.compile(r"upconv(\d)\."), r"conv_up\1."),
    (re.compile(r"HRconv\."), "conv_hr."),
    (re.compile(r"model\.0\."), "conv_first."),
    (re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\."), r"body.\1.rdb\2.conv\3."),
    (re.compile(r"model\.1\.sub\.\d+\.(?=weight|bias)"), "conv_body."),
)
_NUMBERED: Final = re.compile(r"model\.(\d+)\.(weight|bias)")


def read_facts(path: Path) -> UpscalerFacts | None:
    """What is in a file, None for another architecture; no tensor is read. Raises ModelUnsupported, OSError."""
    if path.suffix.lower() in PICKLED:
        shapes = pickled_shapes(path)
    else:
        try:
            shapes = read_header(path).shapes
        except BadFile as error:
            raise ModelUnsupported(f"{path.name} cannot be used as an upscaler: {error.what}.", error.remedy) from None
    names = new_names(shapes)
    return facts_of({new: shapes[old] for old, new in names.items()})


def new_names(names: Iterable[str]) -> dict[str, str]:
    """From the names in a file to the ones used here."""
    found: dict[str, str] = {}
    for name in names:
        new = name.removeprefix("module.")
        for pattern, replacement in _OLD_NAMES:
            new = pattern.sub(replacement, new, count=1) if pattern.match(new) else new
        found[name] = new
    numbers = sorted({int(match[1]) for new in found.values() if (match := _NUMBERED.fullmatch(new))})
    places = {number: f"conv_up{index}" for index, number in enumerate(numbers[:-2], 1)}
    places |= dict(zip(numbers[-2:], ("conv_hr", "conv_last"), strict=False))
    for name, new in found.items():
        if match := _NUMBERED.fullmatch(new):
            found[name] = f"{places[int(match[1])]}.{match[2]}"
    return found


def facts_of(shapes: Shapes) -> UpscalerFacts | None:
    """The facts of a model by the shapes of its tensors under the names used here; None for other architectures."""
    facts = _rrdb(shapes) if "conv_first.weight" in shapes else _compact(shapes)
    return facts if facts is not None and expected_shapes(facts) == dict(shapes) else None


def expected_shapes(facts: UpscalerFacts) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with these facts."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, into: int, out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into, 3, 3), (out,)

    width, growth = facts.features, facts.growth
    if facts.architecture == "rrdb":
        conv("conv_first", 3 * facts.shuffle**2, width)
        for block in range(facts.blocks):
            for dense in (1, 2, 3):
                for number in range(1, 6):
                    into = width + (number - 1) * growth
                    conv(f"body.{block}.rdb{dense}.conv{number}", into, width if number == 5 else growth)
        for name in ("conv_body", *(f"conv_up{number}" for number in range(1, facts.doublings + 1)), "conv_hr"):
            conv(name, width, width)
        conv("conv_last", width, 3)
        return shapes
    for index in range(facts.blocks + 1):
        conv(f"body.{2 * index}", 3 if index == 0 else width, width)
        shapes[f"body.{2 * index + 1}.weight"] = (width,)
    conv(f"body.{2 * facts.blocks + 2}", width, 3 * facts.scale**2)
    return shapes


def _rrdb(shapes: Shapes) -> UpscalerFacts | None:
    first, grown = shapes["conv_first.weight"], shapes.get("body.0.rdb1.conv1.weight", ())
    if len(first) != 4 or len(grown) != 4:
        return None
    shuffle = math.isqrt(first[1] // 3)
    doublings = sum(f"conv_up{number}.weight" in shapes for number in range(1, 6))
    blocks = _count(shapes, re.compile(r"body\.(\d+)\."))
    if shuffle not in (1, 2, 4) or 2**doublings % shuffle or not blocks:
        return None
    return UpscalerFacts("rrdb", 2**doublings // shuffle, first[0], grown[0], blocks, shuffle, _parameters(shapes))


def _compact(shapes: Shapes) -> UpscalerFacts | None:
    first, last = shapes.get("body.0.weight", ()), _count(shapes, re.compile(r"body\.(\d+)\.weight")) - 1
    out = shapes.get(f"body.{last}.weight", ())
    if len(first) != 4 or len(out) != 4 or last < 2 or last % 2:
        return None
    return UpscalerFacts("compact", math.isqrt(out[0] // 3), first[0], 0, last // 2 - 1, 1, _parameters(shapes))


def _count(shapes: Shapes, pattern: re.Pattern[str]) -> int:
    return 1 + max((int(match[1]) for name in shapes if (match := pattern.match(name))), default=-1)


def _parameters(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
