"""The self-test's kernels run on the CPU, too, where they prove that the trials themselves are right."""

from __future__ import annotations

import sys

import pytest
import torch

from qied.engine.ops.cudnn_attention import CudnnFp8Attention
from qied.engine.ops.fp8_attention import SimulatedFp8Attention
from qied.engine.selftest import attention
from qied.engine.selftest.attention import AttentionShape, AttentionTrials
from qied.engine.selftest.child import run_suite
from qied.engine.selftest.facts import cudnn_version, facts
from qied.engine.selftest.matmul import quantised
from qied.engine.selftest.measure import ERROR_LIMITS, clock_of, relative_error
from qied.engine.selftest.trials import CARD_CHECKED, CARD_SHAPE, card, cpu
from qied.hardware.trial_lines import FinishedTrial

HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"


@pytest.fixture(scope="module")
def results():
    lines = []
    run_suite(cpu(), (), lines.append)
    return {line.name: line.trial for line in lines if isinstance(line, FinishedTrial)}


@pytest.mark.parametrize(
    ("name", "least"),
    [("bf16", 0.001), ("fp8_tensorwise", 0.02), ("fp8_storage", 0.015), ("int8", 0.004)],
)
def test_matrix_products_are_right_with_the_error_of_their_numbers(results, name, least):
    trial = results[name]
    if name == "fp8_tensorwise" and not HAS_AVX512 and not trial.ok:
        assert "could not create a primitive" in trial.error, "oneDNN multiplies FP8 from AVX-512 on"
        return
    assert trial.ok, trial.error
    assert least < trial.relative_error < ERROR_LIMITS.get(name, ERROR_LIMITS["fp8"])
    assert trial.tflops > 0


def test_a_product_with_scales_per_row_is_right_or_refused_by_a_torch_without_it_for_the_cpu(results):
    trial = results["fp8_rowwise"]
    if trial.ok:
        assert 0.02 < trial.relative_error < ERROR_LIMITS["fp8"]
    else:
        assert "scale_a.numel() == 1" in trial.error


@pytest.mark.parametrize("name", ["flash_64", "flash_128", "math_64", "math_128"])
def test_attention_that_a_cpu_has_is_right(results, name):
    trial = results[f"attention.{name}"]
    assert trial.ok, trial.error
    assert trial.relative_error < ERROR_LIMITS["attention"] / 4


@pytest.mark.parametrize("size", [64, 128])
def test_attention_in_fp8_is_right_with_the_error_of_its_numbers(results, size):
    trial = results[f"attention.fp8_attention_{size}"]
    assert trial.ok, trial.error
    assert 0.04 < trial.relative_error < 0.8 * ERROR_LIMITS["fp8_attention"]


@pytest.mark.parametrize(("times", "ok"), [((0.9, 1.0), True), ((0.99, 1.0), False), ((1.3, 1.0), False)])
def test_attention_in_fp8_has_to_be_faster_where_speed_counts(monkeypatch, times, ok):
    seconds = dict(zip(("fp8", "plain"), times, strict=True))
    shape = AttentionShape(heads=2, tokens=33, timed_tokens=40)
    trials = AttentionTrials(torch.device("cpu"), shape, torch.bfloat16, lambda work, runs: 1.0)
    monkeypatch.setattr(attention, "has_to_be_fast", lambda _: True)
    monkeypatch.setattr(attention, "median_seconds", lambda clock, *works: tuple(seconds.values()))
    trial = trials.trials()["fp8_attention_64"]()
    assert trial.ok == ok
    assert ok or "slower than BF16" in trial.error


def test_attention_in_fp8_is_checked_with_few_tokens_and_timed_with_many(monkeypatch):
    seen = []

    class Kernel(SimulatedFp8Attention):
        def __call__(self, heads, first, scales, out):
            seen.append((len(heads), len(out)))
            super().__call__(heads, first, scales, out)

    monkeypatch.setattr(attention, "kernel_of", lambda _: Kernel())
    shape = AttentionShape(heads=2, tokens=33, timed_tokens=40)
    trial = AttentionTrials(torch.device("cpu"), shape, torch.bfloat16, clock_of(torch.device("cpu"))).trials()
    found = trial["fp8_attention_64"]()
    assert found.ok, found.error
    assert seen[0] == (33, 33) and set(seen[1:]) == {(40, 40)}


def test_without_its_package_attention_in_fp8_is_not_proven_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    shape = AttentionShape(heads=2, tokens=8, timed_tokens=8)
    trials = AttentionTrials(torch.device("cpu"), shape, torch.bfloat16, lambda work, runs: 1.0)
    monkeypatch.setattr(attention, "kernel_of", lambda _: CudnnFp8Attention(torch.device("cuda", 0)))
    trial = trials.trials()["fp8_attention_64"]()
    assert not trial.ok
    assert "pip install 'nvidia-cudnn-frontend>=" in trial.error


@pytest.mark.parametrize("name", ["cudnn_64", "efficient_128"])
def test_attention_that_a_cpu_does_not_have_says_so(results, name):
    trial = results[f"attention.{name}"]
    assert not trial.ok
    assert "No viable backend" in trial.error


def test_every_mode_and_backend_has_its_trial(results):
    attention = {
        f"attention.{backend}_{size}"
        for backend in ("cudnn", "flash", "efficient", "math", "fp8_attention")
        for size in (64, 128)
    }
    assert set(results) == {"bf16", "fp8_rowwise", "fp8_tensorwise", "fp8_storage", "int8"} | attention


@pytest.mark.parametrize("mistake", ["one scale for all rows", "scales of the other factor", "no scale"])
def test_wrong_scales_are_beyond_the_limit(mistake):
    generator = torch.Generator().manual_seed(3)
    rows = torch.exp2(6 * torch.rand(64, 1, generator=generator))
    inputs = torch.randn(64, 128, generator=generator) * rows
    weight = torch.randn(64, 128, generator=generator)
    low, scale = quantised(inputs, rows=True)
    low_weight, weight_scale = quantised(weight, rows=True)
    wrong = {
        "one scale for all rows": (scale.mean(), weight_scale.t()),
        "scales of the other factor": (weight_scale, scale.t()),
        "no scale": (1.0, 1.0),
    }
    unscaled = low.float() @ low_weight.float().t()
    reference = inputs @ weight.t()
    assert relative_error(unscaled * scale * weight_scale.t(), reference, rows) < ERROR_LIMITS["fp8"]
    of_rows, of_channels = wrong[mistake]
    assert relative_error(unscaled * of_rows * of_channels, reference, rows) > 5 * ERROR_LIMITS["fp8"]


def scaled(values, weight, *, scale_a, scale_b, bias, out_dtype, use_fast_accum, out):
    """What the tensor cores compute."""
    product = (values.float() @ weight.float()) * scale_a * scale_b
    return out.copy_((product if bias is None else product + bias.float()).to(out_dtype))


@pytest.fixture
def fp8_trial(monkeypatch):
    def run(kernel, scaling="rowwise"):
        monkeypatch.setattr(torch, "_scaled_mm", kernel)
        return cpu().trials[f"fp8_{scaling}"]()

    return run


@pytest.mark.parametrize("scaling", ["rowwise", "tensorwise"])
def test_fp8_is_tried_by_way_of_the_engines_own_linear_with_a_bias_at_every_shape(fp8_trial, scaling):
    seen = set()

    def kernel(values, weight, *, bias, **options):
        seen.add((*values.shape, bias is not None))
        return scaled(values, weight, bias=bias, **options)

    trial = fp8_trial(kernel, scaling)
    assert trial.ok, trial.error
    assert seen == {(64, 128, True), (5, 128, True), (50, 512, True)}


def test_a_kernel_without_a_bias_for_some_shapes_is_no_failure(fp8_trial):
    def kernel(values, weight, *, bias, **options):
        if bias is not None and len(values) == 5:
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return scaled(values, weight, bias=bias, **options)

    trial = fp8_trial(kernel)
    assert trial.ok, trial.error


@pytest.mark.parametrize("mistake", ["few tokens", "wide", "bias", "not a number"])
def test_a_kernel_that_is_wrong_anywhere_is_refused(fp8_trial, mistake):
    def kernel(values, weight, *, bias, **options):
        if mistake == "bias":
            return scaled(values, weight, bias=None, **options)
        result = scaled(values, weight, bias=bias, **options)
        if mistake == "few tokens" and len(values) == 5:
            result[-1] = 0
        if mistake == "wide" and values.shape[1] == 512:
            result[:, -1] = 0
        if mistake == "not a number" and len(values) == 5:
            result[0, 0] = torch.nan
        return result

    trial = fp8_trial(kernel)
    assert not trial.ok
    if mistake == "few tokens":
        assert "5 tokens of 128" in trial.error


def test_the_cards_fp8_is_tried_at_the_tokens_and_widths_of_edits():
    shapes = {(shape.tokens, shape.inner) for shape in (CARD_SHAPE, *CARD_CHECKED)}
    assert shapes == {(tokens, inner) for tokens in (4096, 250, 5) for inner in (3072, 12288)}


def test_quantised_rows_use_the_whole_range():
    low, scale = quantised(torch.tensor([[1.0, -2.0], [300.0, 100.0]]), rows=True)
    assert low.float().abs().amax(dim=1).tolist() == [448.0, 448.0]
    assert scale.flatten().tolist() == pytest.approx([2 / 448, 300 / 448])


def test_without_a_card_the_cards_suite_does_not_start():
    if torch.cuda.is_available():
        assert "host_to_device" in card().trials
        return
    with pytest.raises((RuntimeError, AssertionError)):
        card()


@pytest.mark.parametrize(
    ("number", "version"), [(None, None), (91002, "9.10.2"), (90100, "9.1.0"), (8907, "8.9.7"), (91900, "9.19.0")]
)
def test_cudnns_number_is_read(number, version):
    assert cudnn_version(number) == version


def test_a_build_for_the_cpu_has_no_kernels_for_cards():
    if torch.version.cuda is None:
        assert facts() == {"arch_list": [], "cudnn": None}
    else:
        assert facts()["arch_list"]
