import torch

from qied.engine.host_memory import HostBuffer


def test_a_buffer_has_exactly_the_bytes_asked_for() -> None:
    buffer = HostBuffer(453_121_024 // 1024, pin=False).bytes
    assert (buffer.dtype, buffer.shape, buffer.device.type) == (torch.uint8, (442_501,), "cpu")
    assert buffer.untyped_storage().nbytes() == 442_501


def test_pinning_is_passed_over_where_there_is_no_cuda() -> None:
    buffer = HostBuffer(4096, pin=True).bytes
    assert buffer.fill_(3).sum() == 3 * 4096
