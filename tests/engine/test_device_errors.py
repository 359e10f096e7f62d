import errno
from collections.abc import Callable

import pytest
import torch

from qied.engine import device_errors as faults
from qied.engine.device_errors import is_exhausted, is_lost

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
ILLEGAL = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def refused_by_the_cpus_allocator() -> RuntimeError:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        refused_by_the_cpus_allocator(),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:60],
)
def test_memory_that_ran_out_is_known_in_every_form(error: BaseException) -> None:
    assert is_exhausted(error)


@pytest.mark.parametrize(
    "error",
    [ILLEGAL, RuntimeError("shape mismatch"), ValueError("out of memory"), FileNotFoundError(errno.ENOENT, "no")],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_exhausted(error)


def fail(error: Exception) -> Callable[..., None]:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    return raise_it


def test_a_card_that_cannot_be_waited_for_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", fail(ILLEGAL))
    assert is_lost(ILLEGAL, CARD)
    assert is_lost(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), CARD), "a dead context allocates nothing"


@pytest.mark.parametrize(
    ("kernel", "lost"),
    [
        (lambda *_, **__: torch.tensor([1.0]), False),
        (lambda *_, **__: torch.zeros(1), True),
        (fail(ILLEGAL), True),
        (fail(torch.OutOfMemoryError("CUDA out of memory")), False),
    ],
    ids=["right", "wrong", "error", "full"],
)
def test_a_card_that_computes_or_is_only_full_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., torch.Tensor], lost: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(faults.torch, "ones", kernel)
    assert is_lost(RuntimeError("CUDA error"), CARD) is lost


@pytest.mark.parametrize(
    ("error", "device"),
    [(ILLEGAL, CPU), (ValueError("no"), CARD), (torch.OutOfMemoryError("CUDA out of memory"), CARD)],
    ids=["cpu", "python", "full"],
)
def test_the_card_is_not_asked_after_errors_that_are_not_its_own(
    monkeypatch: pytest.MonkeyPatch, error: Exception, device: torch.device
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", fail(AssertionError("asked")))
    assert not is_lost(error, device)
