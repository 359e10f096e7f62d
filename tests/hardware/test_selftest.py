"""Each card is measured once per driver, torch and card; only answers that last are kept."""

from __future__ import annotations

import shutil

import pytest

from qied.hardware.selftest import measured
from qied.hardware.selftest_process import TimeLimits
from qied.hardware.snapshot import Driver, Gpu, Host, Snapshot, System, Torch

FIRST = Gpu(index=0, uuid="GPU-aaaa", name="NVIDIA GeForce RTX 4090")
SECOND = Gpu(index=1, name="NVIDIA GeForce RTX 3060")
MACHINE = Snapshot(
    os=System(system="Linux", release="6.8.0", python="3.11.7"),
    host=Host(),
    driver=Driver(version="560.35.03", cuda="12.6"),
    torch=Torch(version="2.13.0+cu126", cuda="12.6"),
    gpus=(FIRST,),
)


class Bench:
    """Measures with a faulty suite, and counts the child processes that it started."""

    def __init__(self, folder, environ):
        self.folder = folder
        self.log = folder / "log"
        self.environ = {**environ, "FAULT_LOG": str(self.log)}

    def measure(self, snapshot=MACHINE, suite="healthy", **options):
        return measured(
            snapshot, environ=self.environ, cache_folder=self.folder / "cache", suite=f"fault_trials:{suite}", **options
        )

    @property
    def runs(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def bench(tmp_path, faulty):
    return Bench(tmp_path, faulty)


@pytest.fixture(scope="module")
def kept_folder(tmp_path_factory, faulty):
    """The cache folder after the machine was measured once."""
    folder = tmp_path_factory.mktemp("kept")
    Bench(folder, faulty).measure()
    return folder / "cache"


@pytest.fixture
def measured_bench(bench, kept_folder):
    """A bench that has results of the machine already; its runs are those after that."""
    shutil.copytree(kept_folder, bench.folder / "cache")
    return bench


def test_results_come_in_their_places(bench):
    result = bench.measure().gpus[0].selftest
    assert result.bf16.ok
    assert result.fp8_rowwise.ok
    assert result.fp8_tensorwise.ok
    assert result.fp8_storage.ok
    assert list(result.attention) == ["flash_128"]
    assert (result.host_to_device_bytes_per_s, result.host_to_device_error) == (25_000_000_000, None)


def test_each_card_is_measured_by_a_process_that_sees_it_alone(bench):
    told = []
    snapshot = MACHINE.model_copy(update={"gpus": (FIRST, SECOND)})
    bench.measure(snapshot, on_progress=lambda *news: told.append(news))
    assert [line.split()[1] for line in bench.runs] == ["GPU-aaaa", "1"]
    assert told[0] == ("NVIDIA GeForce RTX 4090: bf16", 0, 6)
    assert told[-1][0] == "NVIDIA GeForce RTX 3060: host_to_device"


def test_a_second_look_runs_nothing(bench):
    assert bench.measure() == bench.measure() == bench.measure(only_cached=True)
    assert len(bench.runs) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"driver": Driver(version="570.26")},
        {"driver": None},
        {"torch": Torch(version="2.14.0+cu126", cuda="12.6")},
        {"gpus": (FIRST.model_copy(update={"uuid": "GPU-bbbb"}),)},
        {"gpus": (FIRST.model_copy(update={"name": "another"}),)},
    ],
    ids=["driver", "unknown driver", "torch", "card", "name"],
)
def test_whatever_could_change_the_answer_measures_anew(measured_bench, change):
    measured_bench.measure(MACHINE.model_copy(update=change))
    assert len(measured_bench.runs) == 1


def test_what_changes_with_every_look_does_not(measured_bench):
    measured_bench.measure(MACHINE.model_copy(update={"gpus": (FIRST.model_copy(update={"memory_free_bytes": 1}),)}))
    assert measured_bench.runs == []


def test_fresh_measures_whatever_is_kept(measured_bench):
    measured_bench.measure(fresh=True)
    assert len(measured_bench.runs) == 1


def test_a_read_only_measurement_keeps_nothing(bench):
    assert bench.measure(read_only=True).gpus[0].selftest.bf16.ok
    assert not (bench.folder / "cache").exists()


def test_only_cached_runs_nothing(bench):
    assert bench.measure(only_cached=True) == MACHINE
    assert bench.runs == []


def test_a_damaged_file_is_measured_anew(measured_bench):
    (kept,) = (measured_bench.folder / "cache").iterdir()
    kept.write_text(kept.read_text()[:-20])
    assert measured_bench.measure().gpus[0].selftest.bf16.ok
    assert len(measured_bench.runs) == 1


def test_a_crash_is_kept(bench):
    first = bench.measure(suite="crash_logged").gpus[0].selftest
    assert "SIGABRT" in first.fp8_rowwise.error
    runs = len(bench.runs)
    assert bench.measure(suite="crash_logged").gpus[0].selftest == first
    assert len(bench.runs) == runs


@pytest.mark.parametrize(("suite", "limits"), [("out_of_memory", None), ("hang", TimeLimits(trial_s=0.5))])
def test_what_may_pass_is_not_kept(bench, suite, limits):
    for _ in range(2):
        assert bench.measure(suite=suite, limits=limits).gpus[0].selftest is not None
    assert len(bench.runs) == 2
    assert bench.measure(suite=suite, only_cached=True).gpus[0].selftest is None


def test_a_card_that_torch_cannot_use_proves_nothing(bench):
    result = bench.measure(suite="no_card").gpus[0].selftest
    for trial in (result.bf16, result.fp8_rowwise, result.fp8_tensorwise, result.fp8_storage):
        assert not trial.ok
        assert "No CUDA GPUs are available" in trial.error
    assert bench.measure(suite="no_card", only_cached=True).gpus[0].selftest is None


@pytest.mark.parametrize("torch", [None, Torch(version="2.13.0+cpu")])
def test_without_a_torch_for_cuda_nothing_runs(bench, torch):
    snapshot = MACHINE.model_copy(update={"torch": torch})
    assert bench.measure(snapshot) == snapshot
    assert bench.runs == []
