from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qied.engine.copying.copy_ring import CopyRing
from tests.engine.recorded_streams import Recorded

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def ring(device: torch.device) -> CopyRing:
    return CopyRing(device, 4096, 2)


@pytest.fixture(params=["pageable", "pinned"] if torch.cuda.is_available() else ["pageable"])
def host(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    def make(value: int, nbytes: int = 4096) -> Tensor:
        return torch.full((nbytes,), value, dtype=torch.uint8, pin_memory=request.param == "pinned")

    return make


def test_what_was_loaded_is_what_is_used(ring: CopyRing, host: Callable[..., Tensor]) -> None:
    first, second = ring.load(host(1)), ring.load(host(2, 100))
    assert torch.equal(ring.use(second).cpu(), host(2, 100))
    assert torch.equal(ring.use(first).cpu(), host(1))
    assert torch.equal(ring.use(first).cpu(), host(1))


def test_slots_go_round(ring: CopyRing, host: Callable[..., Tensor]) -> None:
    sums: list[Tensor] = []
    ticket = ring.load(host(0))
    for value in range(1, 40):
        ahead = ring.load(host(value))
        sums.append(ring.use(ticket).sum())
        ring.done(ticket)
        ticket = ahead
    assert [int(total) for total in sums] == [4096 * value for value in range(39)]


def test_a_copy_waits_for_the_last_use_of_its_slot(device: torch.device) -> None:
    ring, side = CopyRing(device, 4 * 2048 * 2048, 1), 2048
    results = []
    for value in range(8):
        ticket = ring.load(torch.full((side, side), float(value)).view(torch.uint8).flatten())
        matrix = ring.use(ticket).view(torch.float32).view(side, side)
        # Long enough that a copy that did not wait would be seen.
        slow = (
            matrix if device.type == "cpu" else torch.linalg.multi_dot([torch.eye(side, device=device)] * 8 + [matrix])
        )
        results.append((slow.mean(), matrix.mean()))
        ring.done(ticket)
    assert [(float(slow), float(plain)) for slow, plain in results] == [(value, value) for value in range(8)]


def test_parts_are_gathered_at_their_offsets(ring: CopyRing, host: Callable[..., Tensor]) -> None:
    ticket = ring.load_parts([(512, host(2, 100)), (0, host(1, 256))])
    held = ring.use(ticket).cpu()
    assert held.numel() == 612
    assert torch.equal(held[:256], host(1, 256)) and torch.equal(held[512:], host(2, 100))


def test_the_ring_has_the_bytes_of_all_slots(ring: CopyRing) -> None:
    assert ring.nbytes == 2 * 4096


def test_loading_into_a_slot_that_is_not_done_is_an_error(ring: CopyRing, host: Callable[..., Tensor]) -> None:
    first, second = ring.load(host(1)), ring.load(host(2))
    with pytest.raises(AssertionError, match="not done"):
        ring.load(host(3))
    ring.done(second)
    with pytest.raises(AssertionError, match="not done"):
        ring.load(host(3))
    ring.done(first)
    assert int(ring.use(ring.load(host(3)))[0]) == 3


@pytest.mark.parametrize("misuse", ["use", "done"])
def test_a_ticket_that_is_done_is_over(ring: CopyRing, host: Callable[..., Tensor], misuse: str) -> None:
    ticket = ring.load(host(1))
    ring.done(ticket)
    for again in (ticket, ticket + 1):
        with pytest.raises(AssertionError, match="ticket"):
            getattr(ring, misuse)(again)
    ring.load(host(2))
    ring.load(host(3))
    with pytest.raises(AssertionError, match="ticket"):
        getattr(ring, misuse)(ticket)


def test_what_does_not_fit_a_slot_is_an_error(ring: CopyRing, host: Callable[..., Tensor]) -> None:
    with pytest.raises(AssertionError, match="4097 bytes"):
        ring.load(host(1, 4097))
    with pytest.raises(AssertionError, match="4196 bytes"):
        ring.load_parts([(4096, host(1, 100))])
    assert int(ring.use(ring.load(host(1)))[0]) == 1


def test_a_reset_frees_what_was_loaded_and_never_used(ring: CopyRing, host: Callable[..., Tensor]) -> None:
    done, forgotten = ring.load(host(1)), ring.load(host(2))
    ring.use(done)
    ring.done(done)
    ring.reset()
    with pytest.raises(AssertionError, match="ticket"):
        ring.use(forgotten)
    tickets = [ring.load(host(3)), ring.load(host(4))]
    assert [int(ring.use(ticket)[-1]) for ticket in tickets] == [3, 4]


def test_a_ring_made_in_inference_mode_is_filled_outside_it(device: torch.device, host: Callable[..., Tensor]) -> None:
    with torch.inference_mode():
        ring = CopyRing(device, 16, 1)
        ring.done(ring.load(host(1, 16)))
    assert int(ring.use(ring.load(host(2, 16)))[0]) == 2


LOAD = ["copies wait for e1", "copy", "copies reach e0"]
DONE = ["computation waits for e0", "computation reaches e1"]


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_copies_wait_for_the_last_use_of_their_own_slot_and_uses_for_their_own_copy(recorded: Recorded) -> None:
    ring = CopyRing(torch.device("cpu"), 16, 2, recorded)
    assert recorded.log == ["computation reaches e1", "computation reaches e3"], "whoever had the memory before"
    recorded.log.clear()
    data = torch.zeros(16, dtype=torch.uint8)
    tickets = [ring.load(data), ring.load(data)]
    assert recorded.log == [*LOAD, "copies wait for e3", "copy", "copies reach e2"]
    recorded.log.clear()
    ring.use(tickets[1])
    ring.use(tickets[0])
    assert recorded.log == ["computation waits for e2", "computation waits for e0"]
    recorded.log.clear()
    ring.done(tickets[0])
    ring.load(data)
    assert recorded.log == [*DONE, *LOAD]


def test_a_reset_waits_for_copies_that_nobody_used(recorded: Recorded) -> None:
    ring = CopyRing(torch.device("cpu"), 16, 2, recorded)
    ring.load(torch.zeros(16, dtype=torch.uint8))
    recorded.log.clear()
    ring.reset()
    assert recorded.log == DONE


def test_a_load_that_fails_half_way_leaves_its_slot_free_behind_what_was_copied(recorded: Recorded) -> None:
    ring = CopyRing(torch.device("cpu"), 16, 1, recorded)
    recorded.log.clear()
    good, short = torch.ones(8, dtype=torch.uint8), torch.ones(8, dtype=torch.uint8).as_subclass(Broken)
    with pytest.raises(RuntimeError, match="cannot be read"):
        ring.load_parts([(0, good), (8, short)])
    assert recorded.log == [*LOAD, *DONE]
    assert ring.use(ring.load(torch.full((16,), 5, dtype=torch.uint8))).tolist() == [5] * 16


class Broken(torch.Tensor):
    """Memory that cannot be copied from."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: object = None
    ) -> object:
        if func is torch.Tensor.copy_:
            raise RuntimeError("cannot be read")
        return super().__torch_function__(func, types, args, kwargs or {})
