"""Layers whose weights stay in the host's memory and pass through the device one after the other, in every forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from qied.engine.block.views import views
from qied.engine.copying.copy_ring import CopyRing
from qied.engine.copying.streams import Streams, streams_of
from qied.engine.weights.quantise import dequantise
from qied.planning.memory import STREAMED_SLOTS

_STACKS = ("visual.blocks.", "language_model.layers.")
_TABLE = "language_model.embed_tokens"
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


def is_streamed(name: str) -> bool:
    """Whether a tensor of a Qwen2_5_VLModel stays in the host's memory: those of layers, and the token embeddings."""
    return name.startswith((*_STACKS, f"{_TABLE}."))


def stream_text_model(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    scales: Mapping[str, Tensor],
    before_forward: Callable[[], None] = _nothing,
) -> StreamedTextModel:
    """Convert a Qwen2_5_VLModel that lies in host memory, in place, so that its forwards run on ``device``.

    The blocks of ``model.visual`` and the layers of ``model.language_model`` are streamed; both take inputs on
    ``device`` as before. ``embed_tokens`` stays in host memory and looks up there; everything else moves to the device.
    Streamed parameters stay where and as they are stored, be it in a mapped file, and are not pinned; one layer at a
    time is cast to ``dtype``, on the device; those in E4M3 are multiplied by their ``scales`` (FP32 [rows] or [1], by
    name) there, the table's rows when they are looked up. ``before_forward`` is called before each forward of the one
    and of the other; what it raises, the forward raises.
    """
    streams = streams_of(device)
    visual, language = ({name.removeprefix(stack): scale for name, scale in scales.items()} for stack in _STACKS)
    stacks = [
        LayerStack(model.visual, "blocks", device, dtype, streams, before_forward, visual),
        LayerStack(model.language_model, "layers", device, dtype, streams, before_forward, language),
    ]
    model.language_model.embed_tokens = TokenTable(
        model.language_model.embed_tokens.weight.detach(), scales.get(f"{_TABLE}.weight"), dtype
    )
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
        host_bytes=layer_bytes + model.language_model.embed_tokens.weight.nbytes,
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
        scales: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """``scales`` by layer and parameter ("3.mlp.up_proj.weight"), which stay on the device."""
        layers: list[nn.Module] = list(getattr(owner, name))
        self._device = device
        self._dtype = dtype
        self._streams = streams
        self._layouts = [layer_layout(layer) for layer in layers]
        self._before_forward = before_forward
        self._parts = [layout.parts(layer) for layout, layer in zip(self._layouts, layers, strict=True)]
        self._scales: list[dict[str, Tensor]] = [{} for _ in layers]
        for place, scale in scales.items():
            number, _, parameter = place.partition(".")
            if number.isdigit():
                self._scales[int(number)][parameter] = scale.to(device)
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
        return sum(scale.nbytes for scales in self._scales for scale in scales.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all layers in host memory."""
        return sum(part.nbytes for parts in self._parts for _, part in parts)

    def run(self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run layer number ``index`` with its weights on the device, and have the next one copied meanwhile."""
        assert self._ring is not None, "streamed layers run within their model's forward"
        ticket = self._ticket
        stored = self._layouts[index].views(self._ring.use(ticket))
        scales = self._scales[index]
        weights = {name: expanded(view, scales.get(name), self._dtype) for name, view in stored.items()}
        result = functional_call(layer, weights, args, kwargs, strict=True)
        self._ring.done(ticket)
        # Only now, with this layer's work enqueued: the host waits while it copies from pageable memory.
        if index + 1 < len(self._parts):
            self._ticket = self._ring.load_parts(self._parts[index + 1])
        return result

    def _begin(self) -> None:
        self._end()
        self._before_forward()
        self._ring = CopyRing(self._device, self.slot_bytes, STREAMED_SLOTS, self._streams)
        self._ticket = self._ring.load_parts(self._parts[0])

    def _end(self) -> None:
        if self._ring is not None:
            self._ring.reset()
            self._ring = None


class TokenTable(nn.Module):
    """The table of token embeddings where and as it is stored; only the rows of a prompt are read and cast.

    ``weight`` [vocabulary, hidden], times ``scale`` (FP32 [vocabulary] or [1]) where it is E4M3 with one.
    """

    def __init__(self, weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        # Neither parameter nor buffer, since a model that is moved would take it along.
        self.weight = weight
        self._scale = scale
        self._dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., hidden] of int64 ids [...]."""
        flat = ids.flatten()
        # Rows are taken as bytes: types of one byte have no look-up of their own.
        rows = self.weight.view(torch.uint8)[flat].view(self.weight.dtype)
        scale = self._scale[flat] if self._scale is not None and len(self._scale) > 1 else self._scale
        return expanded(rows, scale, self._dtype).view(*ids.shape, -1)


def expanded(stored: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A stored tensor in ``dtype``, times its scale where it has one."""
    return stored.to(dtype) if scale is None else dequantise(stored, scale, dtype)


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

    def parts(self, layer: nn.Module) -> list[tuple[int, Tensor]]:
        """Return the layer's parameters as they lie in memory: (offset in the buffer, uint8 [n])."""
        parameters = dict(layer.named_parameters())
        return [(offset, _as_bytes(parameters[name])) for name, offset, *_ in self.fields]

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the parameters by name as views of a buffer, uint8 [nbytes]."""
        return views(self.fields, buffer)


def layer_layout(layer: nn.Module) -> LayerLayout:
    """Lay out the parameters of a layer in their order; a layer that also has buffers cannot be streamed."""
    assert next(layer.buffers(), None) is None
    fields, end = [], 0
    for name, parameter in layer.named_parameters():
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        fields.append((name, offset, parameter.shape, parameter.dtype))
        end = offset + parameter.nbytes
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
