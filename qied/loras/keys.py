"""Names of tensors in LoRA files, in the styles of PEFT, of Lightning and of kohya's trainer.

Each stands for one part of one module of a transformer block: ``down`` (A), ``up`` (B) or ``alpha``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from qied.planning.block_layout import BlockShape, linears

Part = Literal["down", "up", "alpha"]

MODULATION: Final = ("img_mod.1", "txt_mod.1")
"""The linears of a block whose outputs depend on the timestep alone."""

_MODULES: Final = (*(module for linear in linears(BlockShape(1, 1, 1)) for module in linear.modules), *MODULATION)
_FLAT: Final = {module.replace(".", "_"): module for module in _MODULES}
_PARTS: Final[dict[str, Part]] = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}
_PREFIXES: Final = r"(?:(?:base_model\.model|model|transformer|diffusion_model)\.){0,3}"
_END: Final = r"(?:\.(?P<part>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight|\.(?P<alpha>alpha))"
_DOTTED: Final = re.compile(_PREFIXES + r"transformer_blocks\.(?P<block>\d{1,4})\.(?P<module>[\w.]+?)" + _END, re.ASCII)
_UNDERSCORED: Final = re.compile(r"lora_unet_transformer_blocks_(?P<block>\d{1,4})_(?P<module>\w+?)" + _END, re.ASCII)


@dataclass(frozen=True)
class Key:
    """What one tensor of a LoRA is: a part of ``module`` (diffusers' name) of a block, counted from 0."""

    block: int
    module: str
    part: Part


def parse_key(name: str) -> Key | None:
    """Tell what a tensor's name stands for; None for what is no part of a LoRA that this version runs."""
    found = _DOTTED.fullmatch(name) or _UNDERSCORED.fullmatch(name)
    if found is None:
        return None
    module = found["module"] if found.re is _DOTTED else _FLAT.get(found["module"], "")
    if module not in _MODULES:
        return None
    return Key(int(found["block"]), module, "alpha" if found["alpha"] else _PARTS[found["part"]])
