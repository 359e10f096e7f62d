"""A step that is recorded once and played back: on a GPU without a launch for each kernel, on a CPU by calling it."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP_CALLS = 3
"""Calls before a recording, in which libraries choose kernels and allocate their workspaces."""


def capture(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return ``step`` as a CUDA graph on a GPU, as it is on a CPU.

    It must read and write tensors that stay where they are, and neither wait for the GPU nor copy from the host. It is
    called ``WARM_UP_CALLS`` times first, so what it changes must be set afterwards.
    """
    if device.type != "cuda":
        return step
    beside = torch.cuda.Stream(device)
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP_CALLS):
            step()
    torch.cuda.current_stream(device).wait_stream(beside)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    # Other threads (pinned memory of the feed) may call CUDA meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    torch.cuda.synchronize(device)
    return graph.replay
