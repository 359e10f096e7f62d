"""The fused kernels through Triton's compiler, for cards that this machine need not have.

Its interpreter knows no type that a card lacks, and nothing of what the compiler makes of roundings.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("triton")

KERNELS = {"norm_kernel", "heads_kernel", "input_kernel", "expand_kernel"}
FOR_INT8 = {"int8_linear_kernel"}
FOR_FP8_ATTENTION = {"largest_value_kernel", "quantised_heads_kernel"}
Compiled = Callable[[int], dict[str, list[str]]]
ARITHMETIC = re.compile(r"\b(?:mul|add|sub|fma)\.(?:rn\.)?bf16")
FUSED = re.compile(r"\bfma\.rn\.bf16(?:x2)?\s+%\w+, (%\w+), (%\w+), (%\w+);")
CONSTANT = re.compile(r"\bmov\.b(?:16|32)\s+(%\w+), (0x[0-9A-Fa-f]+|-?\d+);")
MINUS_ZERO, ONE = {0x8000, 0x80008000}, {0x3F80, 0x3F803F80}


TURING, WITHOUT_FP8_CORES, WITH_FP8_CORES = (75,), (80, 86), (89, 90, 100, 120)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The assembly of each kernel by its name, for a compute capability. One process compiles for all of them."""
    capabilities = TURING + WITHOUT_FP8_CORES + WITH_FP8_CORES
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    command = [sys.executable, "-m", "tests.engine.ops.compile_kernels", *map(str, capabilities)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
    return lambda capability: found[str(capability)]


@pytest.mark.parametrize("capability", TURING)
def test_turing_gets_fused_kernels_around_the_products_of_torch(compiled: Compiled, capability: int) -> None:
    assert compiled(capability).keys() == KERNELS - {"expand_kernel"}


@pytest.mark.parametrize("capability", WITHOUT_FP8_CORES)
def test_cards_without_fp8_cores_get_fused_kernels_and_expanded_weights(compiled: Compiled, capability: int) -> None:
    assert compiled(capability).keys() == KERNELS | FOR_INT8


@pytest.mark.parametrize("capability", WITHOUT_FP8_CORES + WITH_FP8_CORES)
def test_int8_is_multiplied_by_the_tensor_cores(compiled: Compiled, capability: int) -> None:
    instruction = r"wgmma\.mma_async\S*\.s32\.s8\.s8" if capability == 90 else r"mma\.sync\S*\.s32\.s8\.s8\.s32"
    found = compiled(capability)
    codes = found["int8_linear_kernel"] + found.get("persistent_int8_linear_kernel", [])
    assert all(re.search(instruction, code) for code in codes)
    assert ("persistent_int8_linear_kernel" in found) == (capability == 90)


@pytest.mark.parametrize("capability", WITH_FP8_CORES)
def test_cards_with_fp8_cores_get_all_of_them(compiled: Compiled, capability: int) -> None:
    for_hopper = {"persistent_int8_linear_kernel"} if capability == 90 else set()
    assert compiled(capability).keys() == KERNELS | FOR_INT8 | FOR_FP8_ATTENTION | for_hopper


@pytest.mark.parametrize("capability", [86, 90, 120])
def test_a_product_that_is_rounded_is_not_fused_with_its_sum(compiled: Compiled, capability: int) -> None:
    found = [code for code in compiled(capability)["norm_kernel"] if ARITHMETIC.search(code)]
    assert found, "in BF16, what is rounded in between is computed in BF16"
    assert [line for code in found for line in fused(code)] == []


def fused(code: str) -> list[str]:
    """Products and sums in one rounding. Cards before 9.0 have no others in BF16, and add -0 or multiply by 1."""
    constants = {name: value(number) for name, number in CONSTANT.findall(code)}
    found = []
    for match in FUSED.finditer(code):
        one, other, addend = (constants.get(name) for name in match.groups())
        if addend not in MINUS_ZERO and not {one, other} & ONE:
            found.append(match[0])
    return found


def value(number: str) -> int:
    """The 32 bits of a constant, which is written in hexadecimal or as a signed number."""
    return int(number, 0) & 0xFFFFFFFF
