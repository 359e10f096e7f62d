"""One change of one linear, whatever it was trained as, by the names and shapes of its tensors alone.

A plain LoRA is the product of two matrices. LoHa is the element-wise product of two such products, which is one of
them too, of a higher rank. LoKr is the Kronecker product of two matrices, each of which may be a product itself. A full
difference is a matrix as large as the linear's weights. Formulas: LyCORIS (arXiv 2309.14859), as ComfyUI applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from qied.loras.keys import Part, linear_path
from qied.loras.refusals import OTHER_MODEL, unusable
from qied.loras.stored_scales import StoredScales

Method = Literal["LoRA", "LoKr", "LoHa", "full difference", "bias"]
Shapes = Mapping[str, tuple[int, ...]]
Names = Mapping[Part, str]
"""Names in the file of the tensors of one change."""

_LETTERS: Final = {"down": "A (down)", "up": "B (up)"}


@dataclass(frozen=True)
class Change:
    """What is added to one linear: its method, and its tensors by their names in the file.

    As a branch, it is ``down`` [rank, inputs] and ``up`` [outputs, rank]; LoKr is its ``factors`` instead, the sizes
    (o1, i1, o2, i2) of two matrices whose Kronecker product is [outputs, inputs], and has rank 0, as has a bias alone.
    It counts times alpha / ``divisor``, where ``alpha`` names a tensor; without one, times ``scale``.
    """

    block: int | None
    module: str
    method: Method
    outputs: int
    inputs: int
    tensors: Names = field(hash=False)
    rank: int = 0
    factors: tuple[int, int, int, int] | None = None
    alpha: str | None = None
    divisor: int = 1
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Values of a token between the two matrices."""
        if self.factors is None:
            return self.rank
        o1, i1, o2, i2 = self.factors
        return min(i1 * o2, o1 * i2)

    @property
    def matrix_sizes(self) -> tuple[int, int]:
        """Numbers in the two matrices, as they are on the device."""
        if self.factors is None:
            return self.rank * self.inputs, self.outputs * self.rank
        o1, i1, o2, i2 = self.factors
        return o1 * i1, o2 * i2

    @property
    def parameters(self) -> int:
        """Numbers that are on the device while an edit uses it."""
        return sum(self.matrix_sizes) + (self.outputs if "bias" in self.tensors else 0)


class Reader:
    """Reads changes from the ``shapes`` of a file's tensors; ``file`` is its name in errors."""

    def __init__(self, shapes: Shapes, file: str, scales: StoredScales) -> None:
        self._shapes = shapes
        self._file = file
        self._scales = scales

    def change(self, block: int | None, module: str, names: Names, shape: tuple[int, int]) -> Change:
        """The change of a linear of ``shape`` (outputs, inputs); raises ModelUnsupported that names the tensor."""
        outputs, inputs = shape
        bias = names.get("bias")
        if bias is not None and self._shapes[bias] != (outputs,):
            raise self._wrong(bias, f"[{outputs}]")
        kinds = {self._method(part) for part in names if part not in ("alpha", "bias")}
        if len(kinds) > 1:
            both = " and ".join(sorted(kinds))
            raise unusable(self._file, f"{next(iter(names.values()))} belongs to a change of two kinds, {both}")
        tensors: dict[Part, str] = {part: name for part, name in names.items() if part != "alpha"}
        method: Method = next(iter(kinds), "bias")
        change = Change(block, module, method, outputs, inputs, tensors, alpha=names.get("alpha"))
        if method == "bias":
            if bias is None:
                raise unusable(self._file, f"{names['alpha']} has no {_LETTERS['down']} matrix to go with it")
            return replace(change, alpha=None)
        if method == "full difference":
            self._check(names["difference"], (outputs, inputs))
            return replace(change, rank=min(outputs, inputs), alpha=None)
        if method == "LoRA":
            return self._lora(change)
        return self._lokr(change) if method == "LoKr" else self._loha(change)

    def _lora(self, change: Change) -> Change:
        rank = self._product(change, "down", "up", change.outputs, change.inputs)
        return replace(change, rank=rank, divisor=rank, scale=self._stored(change, rank))

    def _loha(self, change: Change) -> Change:
        ranks = [
            self._product(change, f"hada_w{number}_b", f"hada_w{number}_a", change.outputs, change.inputs)  # type: ignore[arg-type]
            for number in (1, 2)
        ]
        rank = min(ranks[0] * ranks[1], change.outputs, change.inputs)
        return replace(change, rank=rank, divisor=ranks[0], scale=self._stored(change, ranks[0]))

    def _lokr(self, change: Change) -> Change:
        (o1, i1, rank1), (o2, i2, rank2) = (self._factor(change, number) for number in (1, 2))
        if (o1 * o2, i1 * i2) != (change.outputs, change.inputs):
            name = next(iter(change.tensors.values()))
            raise unusable(
                self._file,
                f"the Kronecker product at {name} is [{o1 * o2}, {i1 * i2}], but should be "
                f"[{change.outputs}, {change.inputs}]",
                OTHER_MODEL,
            )
        divisor = rank2 or rank1
        factors = (o1, i1, o2, i2)
        if divisor:
            return replace(change, factors=factors, divisor=divisor, scale=self._stored(change, divisor))
        if self._scales != StoredScales():
            name = next(iter(change.tensors.values()))
            raise unusable(self._file, f"{name} is a LoKr of whole matrices, whose alpha is only in a configuration")
        # Without a rank there is nothing that alpha could be divided by.
        return replace(change, factors=factors, alpha=None)

    def _stored(self, change: Change, rank: int) -> float:
        """What a change counts by the file's configuration, where no tensor says it."""
        return self._scales.scale(linear_path(change.block, change.module), rank)

    def _factor(self, change: Change, number: int) -> tuple[int, int, int]:
        """(Outputs, inputs, rank) of one matrix of a Kronecker product; rank 0 for one that is whole."""
        whole: Part = f"lokr_w{number}"  # type: ignore[assignment]
        if whole in change.tensors:
            outputs, inputs = self._matrix(change.tensors[whole])
            return outputs, inputs, 0
        up, down = (self._matrix(self._needed(change, f"{whole}_{letter}")) for letter in "ab")
        if up[1] != down[0]:
            name = change.tensors[f"{whole}_b"]  # type: ignore[index]
            raise unusable(self._file, f"{name} has rank {down[0]}, but its other half has {up[1]}")
        return up[0], down[1], down[0]

    def _product(self, change: Change, down: Part, up: Part, outputs: int, inputs: int) -> int:
        """The rank of two matrices whose product is [outputs, inputs]."""
        names = self._needed(change, down), self._needed(change, up)
        first, second = self._matrix(names[0], f"[rank, {inputs}]"), self._matrix(names[1], f"[{outputs}, rank]")
        if first[1] != inputs:
            raise self._wrong(names[0], f"[rank, {inputs}]")
        if second[0] != outputs:
            raise self._wrong(names[1], f"[{outputs}, rank]")
        if first[0] != second[1]:
            raise unusable(self._file, f"{names[0]} has rank {first[0]}, but {names[1]} has {second[1]}")
        return first[0]

    def _needed(self, change: Change, part: str) -> str:
        name = change.tensors.get(part)  # type: ignore[call-overload]
        if name is None:
            there = next(iter(change.tensors.values()))
            raise unusable(self._file, f"{there} has no {_LETTERS.get(part, part)} matrix to go with it")
        return str(name)

    def _matrix(self, name: str, wanted: str = "a matrix") -> tuple[int, int]:
        """Rows and columns; a convolution of one pixel, which some trainers write for a linear, counts as a matrix."""
        shape = self._shapes[name]
        if len(shape) < 2 or 0 in shape or any(size != 1 for size in shape[2:]):
            raise self._wrong(name, wanted)
        return shape[0], shape[1]

    def _check(self, name: str, shape: tuple[int, int]) -> None:
        if self._shapes[name] != shape:
            raise self._wrong(name, str(list(shape)))

    def _wrong(self, name: str, wanted: str) -> Exception:
        return unusable(self._file, f"{name} is {list(self._shapes[name])}, but should be {wanted}", OTHER_MODEL)

    def _method(self, part: Part) -> Method:
        if part == "difference":
            return "full difference"
        return "LoKr" if part.startswith("lokr") else "LoHa" if part.startswith("hada") else "LoRA"
