"""Asks the CUDA driver itself which cards it gives to programs; run as a child process, for it can crash or hang.

NVML may show cards that CUDA cannot use: after a suspended machine resumed, or in a container without the compute
capability. CUDA's order of cards also differs from NVML's.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qied.hardware.children import NoAnswer, ask_child

_WSL_LIBRARY = "/usr/lib/wsl/lib/libcuda.so.1"
_LIBRARIES = ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", _WSL_LIBRARY)


@dataclass(frozen=True)
class CudaAnswer:
    """UUIDs without prefix in CUDA's order, or the reason why CUDA does not start."""

    uuids: tuple[str, ...] = ()
    error: str | None = None


def ask_cuda(environ: Mapping[str, str], limit_s: float = 20.0) -> CudaAnswer:
    """What CUDA says in a process with this environment."""
    try:
        answer = json.loads(ask_child(__name__, environ=environ, limit_s=limit_s))
        return CudaAnswer(tuple(answer["uuids"]), answer["error"])
    except NoAnswer as error:
        return CudaAnswer(error=str(error))
    except (ValueError, KeyError, TypeError):
        return CudaAnswer(error="its answer cannot be read")


def list_cards(cuda: Any) -> CudaAnswer:
    """Initialise the library ``cuda`` and list its cards. No card is an answer, not an error."""
    code = cuda.cuInit(0)
    if code == _NO_DEVICE:
        return CudaAnswer()
    if code != 0:
        return CudaAnswer(error=_name_of(cuda, code))
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    found = []
    for number in range(count.value):
        raw = (ctypes.c_ubyte * 16)()
        read = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
        if read(ctypes.byref(raw), number) == 0:
            found.append(str(uuid.UUID(bytes=bytes(raw))))
    return CudaAnswer(tuple(found))


_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE: also where CUDA_VISIBLE_DEVICES hides all cards."""


def _name_of(cuda: Any, code: int) -> str:
    name = ctypes.c_char_p()
    cuda.cuGetErrorName(code, ctypes.byref(name))
    return name.value.decode("ascii", "replace") if name.value else f"CUDA error {code}"


def _load() -> Any:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def main() -> int:
    """Answer on standard output; returns the exit status."""
    cuda = _load()
    answer = (
        CudaAnswer(error="the CUDA driver library (libcuda) is not installed") if cuda is None else list_cards(cuda)
    )
    sys.stdout.write(json.dumps({"uuids": answer.uuids, "error": answer.error}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
