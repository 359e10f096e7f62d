import pytest
import structlog
import torch

from qied.engine.host_memory import HostBuffer, host_buffers

CPU = torch.device("cpu")


def test_a_buffer_has_exactly_the_bytes_asked_for() -> None:
    buffer = HostBuffer(453_121_024 // 1024, CPU, pin=False).bytes
    assert (buffer.dtype, buffer.shape, buffer.device.type) == (torch.uint8, (442_501,), "cpu")
    assert buffer.untyped_storage().nbytes() == 442_501


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

    monkeypatch.setattr("qied.engine.host_memory.HostBuffer", Limited)
    with structlog.testing.capture_logs() as logs:
        buffers = host_buffers(5, 4096, torch.device("cuda"), pin=True)
    assert asked == [True, True, True, False, False]
    assert [buffer.pinned for buffer in buffers] == [True, True, False, False, False]
    assert [(line["pinned_bytes"], line["pageable_bytes"]) for line in logs] == [(2 * 4096, 3 * 4096)]
