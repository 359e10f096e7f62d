"""Attention in FP8 by cuDNN, through its frontend, which is an optional package; for cards from capability 9.0 on."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from qied_client.installing import install_extra
from torch import Tensor

from qied.engine.block.graphs import hold
from qied.engine.device_errors import is_exhausted
from qied.engine.ops.fp8_attention import Fp8Attention, Fp8AttentionUnavailable, ScaleRow, SimulatedFp8Attention

PLANS = 256
"""Plans that are kept, one for each number of queries and keys; records hold their own for as long as they last."""
_INPUTS = {
    "descale_q": ScaleRow.Q,
    "descale_k": ScaleRow.K,
    "descale_v": ScaleRow.V,
    "descale_s": ScaleRow.UNWEIGHT,
    "scale_s": ScaleRow.WEIGHT,
    "scale_o": ScaleRow.RESULT,
}
"""cuDNN's names of the scales."""
_OUTPUTS = (ScaleRow.LARGEST_WEIGHT, ScaleRow.LARGEST_RESULT)


@dataclass(frozen=True)
class _Plan:
    """One cuDNN graph: its tensors are q, k, v, the scales, the result, and two numbers that cuDNN tells."""

    graph: Any
    tensors: tuple[Any, ...]
    memory: Tensor


class CudnnFp8Attention:
    """See :class:`qied.engine.ops.fp8_attention.Fp8Attention`.

    The first call with other numbers of rows builds a plan, which takes a while and cannot be recorded; later ones only
    launch. Raises Fp8AttentionUnavailable where the package is missing, and for what cuDNN refuses.
    """

    def __init__(self, device: torch.device, limit: int = PLANS) -> None:
        self._cudnn = load_cudnn()
        self._device = device
        self._limit = limit
        self._handle: Any = None
        self._plans: OrderedDict[tuple[int, ...], _Plan] = OrderedDict()

    def __call__(self, heads: Tensor, first: int, scales: Tensor, out: Tensor) -> None:
        queries, keys, values = heads.unbind(1)
        operands = [_batched(part) for part in (queries[first : first + len(out)], keys, values)]
        numbers = {row: scales[row, :1].view(1, 1, 1, 1) for row in ScaleRow}
        operands += [*(numbers[row] for row in _INPUTS.values()), _batched(out), *(numbers[row] for row in _OUTPUTS)]
        with torch.cuda.device(self._device):
            plan = self._plan((len(out), *heads.shape), operands)
            hold(plan)
            self._on_this_stream()
            plan.graph.execute(dict(zip(plan.tensors, operands, strict=True)), plan.memory, handle=self._handle)

    def _on_this_stream(self) -> None:
        if self._handle is None:
            self._handle = self._cudnn.create_handle()
        self._cudnn.set_stream(self._handle, torch.cuda.current_stream(self._device).cuda_stream)

    def _plan(self, key: tuple[int, ...], operands: list[Tensor]) -> _Plan:
        plan = self._plans.get(key)
        if plan is None:
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError("a cuDNN plan cannot be built while a CUDA graph is captured")
            self._on_this_stream()
            plan = self._plans[key] = self._built(key, operands)
            while len(self._plans) > self._limit:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def _built(self, key: tuple[int, ...], operands: list[Tensor]) -> _Plan:
        # The package has error types of its own, which differ between its versions.
        try:
            graph, tensors = self._described(operands)
            modes = self._cudnn.heur_mode
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([modes.A, modes.FALLBACK])
            graph.check_support()
            graph.build_plans()
            nbytes = max(1, graph.get_workspace_size())
        except Exception as error:
            if is_exhausted(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            shape = f"{key[0]} queries and {key[1]} keys, {key[3]} heads of {key[4]}"
            raise Fp8AttentionUnavailable(f"cuDNN has no FP8 attention for {shape}: {reason}") from error
        return _Plan(graph, tensors, torch.empty(nbytes, dtype=torch.uint8, device=self._device))

    def _described(self, operands: list[Tensor]) -> tuple[Any, tuple[Any, ...]]:
        kinds = self._cudnn.data_type
        low, full = kinds.FP8_E4M3, kinds.FLOAT
        graph = self._cudnn.pygraph(
            io_data_type=low, intermediate_data_type=full, compute_data_type=full, handle=self._handle
        )
        given = [
            graph.tensor(dim=list(each.shape), stride=list(each.stride()), data_type=low if index < 3 else full)
            for index, each in enumerate(operands[: 3 + len(_INPUTS)])
        ]
        attended, _, *told = graph.sdpa_fp8(
            **dict(zip(("q", "k", "v", *_INPUTS), given, strict=True)),
            attn_scale=operands[0].shape[-1] ** -0.5,
            generate_stats=False,
        )
        made = [attended, *told]
        for tensor, like, kind in zip(made, operands[len(given) :], (low, full, full), strict=True):
            tensor.set_output(True).set_dim(list(like.shape)).set_stride(list(like.stride())).set_data_type(kind)
        return graph, (*given, *made)


def kernel_of(device: torch.device) -> Fp8Attention:
    """cuDNN's on cards, simulated elsewhere; raises Fp8AttentionUnavailable."""
    return CudnnFp8Attention(device) if device.type == "cuda" else SimulatedFp8Attention()


def load_cudnn() -> Any:
    """Import cuDNN's frontend; raises Fp8AttentionUnavailable that says how it is installed."""
    try:
        return importlib.import_module("cudnn")
    except (ImportError, OSError) as error:
        raise Fp8AttentionUnavailable(
            f"the package nvidia-cudnn-frontend is missing ({install_extra('qied[fp8-attention]')}): {error}"
        ) from error


def _batched(rows: Tensor) -> Tensor:
    """See [rows, heads, size] as [1, heads, rows, size]."""
    return rows.transpose(0, 1).unsqueeze(0)
