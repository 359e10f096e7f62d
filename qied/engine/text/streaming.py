"""Layers whose weights stay in the host's memory and pass through the device one after the other, in every forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from qied.checkpoints.names import TEXT_STACKS, TOKEN_TABLE
from qied.engine.block.views import views
from qied.engine.copying.copy_ring import CopyRing
from qied.engine.copying.streams import Streams, streams_of
from qied.engine.weights.sources import MappedWeights
from qied.engine.weights.stored_weight import StoredWeight
from qied.planning.layout.memory import STREAMED_SLOTS

_BLOCK_SCALE = " block scale"
"""Stands behind a parameter's name for its scales within rows; names of parameters have no blanks."""
_ALIGNMENT = 256
"""Bytes to which every parameter in a slot is aligned, as the device's allocator aligns tensors."""


@dataclass(frozen=True)
class StreamedTextModel:
    """Where the bytes of a streamed text model are.

    ``resident_bytes`` stay on the device; during a forward, and only then, ``STREAMED_SLOTS`` slots of at most
    ``slot_bytes`` come on top. ``host_bytes`` are the layers and the token embeddings.
    """

    resident_bytes: int
    slot_bytes: int
    host_bytes: int


def _nothing() -> None:
    """Weights that lie in memory do not change."""


def stream_text_model(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    stored: MappedWeights,
    before_forward: Callable[[], None] = _nothing,
) -> StreamedTextModel:
    """Convert a Qwen2_5_VLModel that lies in host memory, in place, so that its forwards run on ``device``.

    The blocks of ``model.visual`` and the layers of ``model.language_model`` are streamed; both take inputs on
    ``device`` as before. ``embed_tokens`` stays in host memory and looks up there; everything else moves to the device.
    Streamed parameters stay where and as they are stored, be it in a mapped file, and are not pinned; one layer at a
    time is cast to ``dtype``, or expanded, on the device, as ``stored`` has them by name, the table's rows when they
    are looked up. ``before_forward`` is called before each forward of the one and of the other; what it raises, the
    forward raises.
    """
    streams = streams_of(device)
    visual, language = (_below(stack, stored) for stack in TEXT_STACKS)
    stacks = [
        LayerStack(model.visual, "blocks", device, dtype, streams, before_forward, visual),
        LayerStack(model.language_model, "layers", device, dtype, streams, before_forward, language),
    ]
    name = f"{TOKEN_TABLE}.weight"
    plain = StoredWeight(model.language_model.embed_tokens.weight.detach(), stored.scales.get(name))
    table = stored.forms.get(name, plain)
    model.language_model.embed_tokens = TokenTable(table, dtype)
    resident = [
        child
        for part, stack in ((model.visual, "blocks"), (model.language_model, "layers"))
        for name, child in part.named_children()
        if name not in (stack, "embed_tokens")
    ]
    layer_bytes = sum(stack.nbytes for stack in stacks)
    return StreamedTextModel(
        resident_bytes=sum(_nbytes(_moved(part, device, dtype)) for part in resident)
        + sum(stack.scale_bytes for stack in stacks),
        slot_bytes=max(stack.slot_bytes for stack in stacks),
        host_bytes=layer_bytes + table.values.nbytes + (0 if table.block_scale is None else table.block_scale.nbytes),
    )


def _below(stack: str, stored: MappedWeights) -> MappedWeights:
    """What belongs to the layers of a stack, by layer and parameter ("3.mlp.up_proj.weight")."""
    return MappedWeights(
        {name.removeprefix(stack): scale for name, scale in stored.scales.items() if name.startswith(stack)},
        {name.removeprefix(stack): weight for name, weight in stored.forms.items() if name.startswith(stack)},
    )


class LayerStack:
    """The equal layers ``owner.name`` (an nn.ModuleList in host memory), streamed through the device from now on.

    They run in order, once each, within ``owner``'s forward. Around it a ring is made and freed, also when the forward
    fails, so the next one starts afresh. The layers' own parameters stay in host memory and are never written.
    """

    def __init__(
        self,
        owner: nn.Module,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        streams: Streams,
        before_forward: Callable[[], None],
        stored: MappedWeights,
    ) -> None:
        """``stored`` by layer and parameter ("3.mlp.up_proj.weight"); scales of rows and tensors stay on the device."""
        layers: list[nn.Module] = list(getattr(owner, name))
        self._device = device
        self._dtype = dtype
        self._streams = streams
        self._before_forward = before_forward
        self._forms: list[dict[str, StoredWeight]] = [{} for _ in layers]
        held: list[dict[str, Tensor]] = [dict(layer.named_parameters()) for layer in layers]
        for place, scale in stored.scales.items():
            number, _, parameter = place.partition(".")
            self._forms[int(number)][parameter] = StoredWeight(held[int(number)][parameter], scale.to(device))
        for place, weight in stored.forms.items():
            number, _, parameter = place.partition(".")
            held[int(number)][parameter] = weight.values
            if weight.block_scale is not None:
                held[int(number)][parameter + _BLOCK_SCALE] = weight.block_scale
            scale = None if weight.scale is None else weight.scale.to(device)  # type: ignore[assignment]
            self._forms[int(number)][parameter] = replace(weight, scale=scale)
        # What takes more than a cast leaves its slot at once: beside the layer's weights a second slot has no room.
        self._copies = any(_takes_room(form) for forms in self._forms for form in forms.values())
        assert not any(next(layer.buffers(), None) is not None for layer in layers), "a layer with buffers"
        self._layouts = [layer_layout(tensors) for tensors in held]
        self._parts = [layout.parts(tensors) for layout, tensors in zip(self._layouts, held, strict=True)]
        self._ring: CopyRing | None = None
        self._ticket = 0
        setattr(owner, name, nn.ModuleList(_StreamedLayer(self, index, layer) for index, layer in enumerate(layers)))
        owner.register_forward_pre_hook(lambda *_: self._begin())
        owner.register_forward_hook(lambda *_: self._end(), always_call=True)

    @property
    def slot_bytes(self) -> int:
        """Bytes of the largest layer on the device."""
        return max(layout.nbytes for layout in self._layouts)

    @property
    def scale_bytes(self) -> int:
        """Bytes of the scales, on the device."""
        scales = (form.scale for forms in self._forms for form in forms.values())
        return sum(scale.nbytes for scale in scales if scale is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all layers in host memory."""
        return sum(part.nbytes for parts in self._parts for _, part in parts)

    def run(self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run layer number ``index`` with its weights on the device, and have the next one copied meanwhile."""
        assert self._ring is not None, "streamed layers run within their model's forward"
        ticket = self._ticket
        stored = self._layouts[index].views(self._ring.use(ticket))
        weights = self._expanded(index, stored)
        if self._copies:
            for name, weight in weights.items():
                if weight.data_ptr() == stored[name].data_ptr():
                    weights[name] = weight.clone()
            self._ring.done(ticket)
        result = functional_call(layer, weights, args, kwargs, strict=True)
        if not self._copies:
            self._ring.done(ticket)
        # Only now, with this layer's work enqueued: the host waits while it copies from pageable memory.
        if index + 1 < len(self._parts):
            self._ticket = self._ring.load_parts(self._parts[index + 1])
        return result

    def _expanded(self, index: int, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters of a layer in the model's dtype, of what lies in its slot."""
        forms, found = self._forms[index], {}
        for name, view in views.items():
            if not name.endswith(_BLOCK_SCALE):
                form = replace(forms.get(name, _PLAIN), values=view, block_scale=views.get(name + _BLOCK_SCALE))
                found[name] = form.numbers(self._dtype)
        return found

    def _begin(self) -> None:
        self._end()
        self._before_forward()
        slots = 1 if self._copies else STREAMED_SLOTS
        self._ring = CopyRing(self._device, self.slot_bytes, slots, self._streams)
        self._ticket = self._ring.load_parts(self._parts[0])

    def _end(self) -> None:
        if self._ring is not None:
            self._ring.reset()
            self._ring = None


class TokenTable(nn.Module):
    """The table of token embeddings where and as it is stored; only the rows of a prompt are read and expanded."""

    def __init__(self, weight: StoredWeight, dtype: torch.dtype) -> None:
        super().__init__()
        # Neither parameter nor buffer, since a model that is moved would take it along.
        self.weight = weight.values
        self._stored = weight
        self._dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., hidden] of int64 ids [...]."""
        return self._stored.looked_up(ids.flatten(), self._dtype).view(*ids.shape, -1)


_PLAIN = StoredWeight(torch.empty(0))


def _takes_room(form: StoredWeight) -> bool:
    """Whether expanding a weight takes several copies in FP32 of some of its rows."""
    return form.kind is not None or form.block_scale is not None or form.group > 1


class _StreamedLayer(nn.Module):
    """Stands where ``layer`` stood in its list."""

    def __init__(self, stack: LayerStack, index: int, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self._stack = stack
        self._index = index

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer as if its weights were on the device."""
        return self._stack.run(self._index, self.layer, args, kwargs)


@dataclass(frozen=True)
class LayerLayout:
    """Where each parameter of a layer lies in one flat buffer of ``nbytes``: (name, offset in bytes, shape, dtype)."""

    fields: tuple[tuple[str, int, torch.Size, torch.dtype], ...]
    nbytes: int

    def parts(self, tensors: Mapping[str, Tensor]) -> list[tuple[int, Tensor]]:
        """Return the layer's tensors as they lie in memory: (offset in the buffer, uint8 [n])."""
        return [(offset, _as_bytes(tensors[name])) for name, offset, *_ in self.fields]

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the parameters by name as views of a buffer, uint8 [nbytes]."""
        return views(self.fields, buffer)


def layer_layout(tensors: Mapping[str, Tensor]) -> LayerLayout:
    """Lay out the tensors of a layer in their order."""
    fields, end = [], 0
    for name, tensor in tensors.items():
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        fields.append((name, offset, tensor.shape, tensor.dtype))
        end = offset + tensor.nbytes
    return LayerLayout(tuple(fields), end)


def _as_bytes(parameter: Tensor) -> Tensor:
    return parameter.detach().view(-1).view(torch.uint8)


def _moved(part: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move a module and cast its weights; its buffers (frequencies of rotations) keep their FP32."""
    for parameter in part.parameters():
        parameter.data = parameter.data.to(device, dtype)
    return part.to(device)


def _nbytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for group in (module.parameters(), module.buffers()) for tensor in group)
