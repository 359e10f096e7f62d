from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch.nn.attention import SDPBackend

from qied.engine.ops import attention
from qied.engine.ops.attention import Attention

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[SDPBackend], dict[str, bool]]]:
    """What torch is told to use."""
    seen: list[tuple[list[SDPBackend], dict[str, bool]]] = []

    @contextmanager
    def kernel(backends: list[SDPBackend], **options: bool) -> Iterator[None]:
        seen.append((backends, options))
        yield

    monkeypatch.setattr(attention, "sdpa_kernel", kernel)
    return seen


def test_backends_are_preferred_in_the_order_of_the_plan(
    asked: list[tuple[list[SDPBackend], dict[str, bool]]],
) -> None:
    with Attention(("cudnn", "flash"))._allowed(CARD):
        assert asked == [([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], {"set_priority": True})]


@pytest.mark.parametrize(("names", "device"), [((), CARD), (("cudnn",), CPU)], ids=["none named", "cpu"])
def test_otherwise_torch_chooses(
    asked: list[tuple[list[SDPBackend], dict[str, bool]]], names: Sequence[str], device: torch.device
) -> None:
    with Attention(names)._allowed(device):
        assert asked == []


def test_backends_that_a_cpu_does_not_have_change_nothing_there() -> None:
    q, k, v = torch.randn(3, 20, 2, 16, generator=torch.Generator().manual_seed(0))
    scores = torch.einsum("qhd,khd->hqk", q, k) / 4
    expected = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
    torch.testing.assert_close(Attention(("cudnn", "efficient"))(q, k, v), expected)


@pytest.mark.parametrize("names", [["math"], ["flash", "math"]])
def test_the_real_context_takes_these_backends(names: list[str]) -> None:
    chosen = Attention(names)
    with chosen._allowed(CARD):
        result = torch.nn.functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 8, 16))
    assert result.shape == (1, 2, 8, 16)


def test_a_name_that_no_plan_has_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Attention(("fastest",))
