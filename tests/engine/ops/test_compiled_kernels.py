"""The fused kernels through Triton's compiler, for cards that this machine need not have.

Its interpreter knows no type that a card lacks, and nothing of what the compiler makes of roundings.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("triton")

KERNELS = {"norm_kernel", "heads_kernel", "input_kernel", "expand_kernel"}
FOR_FP8_ATTENTION = {"largest_value_kernel", "quantised_heads_kernel"}
Compiled = Callable[[int], dict[str, list[str]]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("triton")

    @cache
    def made(capability: int) -> dict[str, list[str]]:
        environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)}
        command = [sys.executable, "-m", "tests.engine.ops.compile_kernels", str(capability)]
        root = Path(__file__).parents[3]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, list[str]] = json.loads(done.stdout)
        return found

    return made


@pytest.mark.parametrize("capability", [80, 86])
def test_cards_without_fp8_cores_get_fused_kernels_and_expanded_weights(compiled: Compiled, capability: int) -> None:
    assert compiled(capability).keys() == KERNELS


@pytest.mark.parametrize("capability", [89, 90, 100, 120])
def test_cards_with_fp8_cores_get_all_of_them(compiled: Compiled, capability: int) -> None:
    assert compiled(capability).keys() == KERNELS | FOR_FP8_ATTENTION


def test_a_product_that_is_rounded_is_not_fused_with_its_sum(compiled: Compiled) -> None:
    norms = [code for code in compiled(90)["norm_kernel"] if "mul.rn.bf16" in code]
    assert norms, "in BF16, products are rounded"
    assert not any("fma.rn.bf16" in code for code in norms)
