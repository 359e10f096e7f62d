import gc
import mmap
from contextlib import nullcontext

import pytest
import structlog
import torch

from qied.engine.copying.host_memory import HostBuffer, host_buffers

CPU = torch.device("cpu")
HUGE = 2 << 20


def test_a_buffer_has_exactly_the_bytes_asked_for() -> None:
    buffer = HostBuffer(453_121_024 // 1024, CPU, pin=False).bytes
    assert (buffer.dtype, buffer.shape, buffer.device.type) == (torch.uint8, (442_501,), "cpu")
    assert buffer.untyped_storage().nbytes() == 442_501


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="only Linux is asked for huge pages")
@pytest.mark.parametrize("nbytes", [1, HUGE - 1, HUGE, 3 * HUGE + 5])
def test_whole_huge_pages_are_asked_for_and_the_rest_is_not(nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    class Watched(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            super().madvise(option, start, length)
            asked.append((option, torch.frombuffer(self, dtype=torch.uint8).data_ptr() + start, length))

    monkeypatch.setattr("mmap.mmap", Watched)
    buffer = HostBuffer(nbytes, CPU, pin=False).bytes
    assert buffer.numel() == buffer.untyped_storage().nbytes() == nbytes
    whole = nbytes // HUGE * HUGE
    assert asked == ([(mmap.MADV_HUGEPAGE, buffer.data_ptr(), whole)] if whole else [])
    assert nbytes < HUGE or buffer.data_ptr() % HUGE == 0
    assert int(buffer.fill_(1).sum()) == nbytes


class WithoutHugePages(mmap.mmap):
    def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
        raise OSError(22, "Invalid argument")


class WithoutMappings(mmap.mmap):
    def __new__(cls, *args: object, **options: object) -> "WithoutMappings":
        raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize("system", [WithoutHugePages, WithoutMappings])
def test_a_system_that_refuses_gives_memory_all_the_same(
    system: type[mmap.mmap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmap.mmap", system)
    assert int(HostBuffer(HUGE, CPU, pin=False).bytes.fill_(1).sum()) == HUGE


def test_there_is_nothing_to_pin_for_on_the_cpu() -> None:
    buffer = HostBuffer(4096, CPU, pin=True)
    assert buffer.bytes.fill_(3).sum() == 3 * 4096
    assert not buffer.pinned
    with structlog.testing.capture_logs() as logs:
        host_buffers(2, 4096, CPU, pin=True)
    assert logs == []


def test_a_first_refusal_to_pin_is_the_last_attempt_and_is_told_once_with_the_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    class Limited(HostBuffer):
        """The system lets two buffers be pinned."""

        def __init__(self, nbytes: int, device: torch.device, pin: bool) -> None:
            super().__init__(nbytes, torch.device("cpu"), pin)
            asked.append(pin)
            self.pinned = pin and len(asked) <= 2

    monkeypatch.setattr("qied.engine.copying.host_memory.HostBuffer", Limited)
    with structlog.testing.capture_logs() as logs:
        buffers = host_buffers(5, 4096, torch.device("cuda"), pin=True)
    assert asked == [True, True, True, False, False]
    assert [buffer.pinned for buffer in buffers] == [True, True, False, False, False]
    assert [(line["pinned_bytes"], line["pageable_bytes"]) for line in logs] == [(2 * 4096, 3 * 4096)]


class Runtime:
    """A CUDA runtime that answers ``status`` when memory is to be pinned."""

    def __init__(self, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned: list[tuple[int, int]] = []
        self.unpinned: list[int] = []
        self.kernels = 0
        self._status = status
        monkeypatch.setattr(torch.cuda, "cudart", lambda: self)
        monkeypatch.setattr(torch.cuda, "device", nullcontext)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
        monkeypatch.setattr(torch, "zeros", self._kernel)

    def cudaHostRegister(self, address: int, nbytes: int, flags: int) -> int:
        self.pinned.append((address, nbytes))
        return self._status

    def cudaHostUnregister(self, address: int) -> int:
        self.unpinned.append(address)
        return 0

    def _kernel(self, *_: object, **__: object) -> None:
        self.kernels += 1
        raise RuntimeError("CUDA error: out of memory")


def test_memory_that_the_driver_pins_is_pinned_until_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(0, monkeypatch)
    buffer = HostBuffer(HUGE, torch.device("cuda"), pin=True)
    address = buffer.bytes.data_ptr()
    assert buffer.pinned and runtime.pinned == [(address, HUGE)] and not runtime.unpinned
    del buffer
    gc.collect()
    assert runtime.unpinned == [address]


def test_memory_that_the_driver_refuses_to_pin_is_pageable_and_no_kernel_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = Runtime(2, monkeypatch)
    buffer = HostBuffer(HUGE, torch.device("cuda"), pin=True)
    assert not buffer.pinned
    assert runtime.kernels == 1, "CUDA's record of the refusal is taken away"
    assert int(buffer.bytes.fill_(1).sum()) == HUGE
    del buffer
    gc.collect()
    assert runtime.unpinned == []
