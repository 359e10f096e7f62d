"""Machines for planning tests: any that could be, and one at hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from qied.hardware.snapshot import Driver, Gpu, GpuProcess, Host, Pcie, SelfTest, Snapshot, System, Torch, Trial

GIB = 1024**3
ARCHES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


def trials() -> st.SearchStrategy[Trial | None]:
    right = st.builds(Trial, ok=st.just(True), tflops=st.floats(1, 3000), relative_error=st.just(0.03), error=st.none())
    wrong = st.builds(Trial, ok=st.just(False), tflops=st.none(), error=st.sampled_from(["died of SIGSEGV", "NaN"]))
    return st.one_of(right, right, right, wrong, st.none())


ATTENTION_IN_FP8 = {name: Trial(ok=True, tflops=600) for name in ("cudnn_128", "fp8_attention_128")}


def selftests() -> st.SearchStrategy[SelfTest | None]:
    return st.one_of(
        st.none(),
        st.builds(
            SelfTest,
            bf16=trials(),
            fp8_rowwise=trials(),
            fp8_tensorwise=trials(),
            fp8_storage=trials(),
            attention=st.one_of(st.just({}), st.just(ATTENTION_IN_FP8)),
            host_to_device_bytes_per_s=st.one_of(st.none(), st.integers(10**9, 6 * 10**10)),
        ),
    )


# Strategies are made once: making one for each draw took most of the time of these tests.
SELFTESTS = selftests()
PCIE = st.one_of(st.none(), st.just(Pcie(generation=4, width=4, generation_max=4, width_max=16)))


@st.composite
def gpus(draw: st.DrawFn, index: int = 0) -> Gpu:
    total = draw(st.integers(2 * GIB, 200 * GIB))
    return Gpu(
        index=index,
        name=draw(st.sampled_from(["NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-40GB", "Tesla T4", "NVIDIA B200"])),
        compute_capability=draw(
            st.sampled_from([(6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0), None])
        ),
        memory_total_bytes=draw(st.one_of(st.none(), st.just(total))),
        memory_free_bytes=draw(st.one_of(st.none(), st.integers(0, total))),
        pcie=draw(PCIE),
        processes=draw(st.sampled_from([(), (GpuProcess(pid=1, name="ComfyUI", used_bytes=6 * GIB),)])),
        selftest=draw(SELFTESTS),
    )


GPUS = (gpus(0), gpus(1))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    total = draw(st.integers(4 * GIB, 512 * GIB))
    torch = Torch(version="2.13.0+cu130", cuda="13.0", arch_list=ARCHES)
    cards = draw(st.integers(0, 2))
    return Snapshot(
        os=System(
            system="Linux",
            release=draw(st.sampled_from(["6.8", "5.15.153.1-microsoft-standard-WSL2"])),
            python="3.12.3",
        ),
        host=Host(
            memory_total_bytes=total,
            memory_available_bytes=draw(st.one_of(st.none(), st.integers(0, total))),
            memory_limit_bytes=draw(st.one_of(st.none(), st.integers(GIB, total))),
            memlock_limit_bytes=draw(st.sampled_from([None, 65536, 64 * GIB])),
            cpu_count=8,
        ),
        driver=draw(st.sampled_from([Driver(version="580.95.05", cuda="13.0"), Driver(version="470.1"), None])),
        torch=draw(st.sampled_from([torch, torch, torch, torch.model_copy(update={"arch_list": ARCHES[:4]}), None])),
        gpus=tuple(draw(GPUS[index]) for index in range(cards)),
    )


SNAPSHOTS = snapshots()


@st.composite
def working_machines(draw: st.DrawFn) -> Snapshot:
    """One card that torch can use, and host memory that may be little."""
    snapshot = draw(SNAPSHOTS)
    card = draw(GPUS[0])
    capability = draw(st.sampled_from([(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0)]))
    total = draw(st.integers(5 * GIB, 100 * GIB))
    free = draw(st.integers(total // 2, total))
    card = card.model_copy(
        update={"compute_capability": capability, "memory_total_bytes": total, "memory_free_bytes": free}
    )
    driver = Driver(version="580.95.05", cuda="13.0")
    torch = Torch(version="2.13.0+cu130", cuda="13.0", arch_list=ARCHES)
    # The bytes that a card or host lacks are other tests' concern: here most machines have enough to plan with.
    free_host = st.one_of(st.integers(12 * GIB, 64 * GIB), st.integers(2 * GIB, 64 * GIB))
    host = snapshot.host.model_copy(update={"memory_available_bytes": draw(free_host), "memory_limit_bytes": None})
    return snapshot.model_copy(update={"gpus": (card,), "driver": driver, "torch": torch, "host": host})


@pytest.fixture
def machine() -> Callable[..., Snapshot]:
    """Make a healthy machine with one card of this capability and memory, nothing proven on it yet."""

    def make(capability: tuple[int, int] = (8, 9), gib: float = 12, *, free: float | None = None, host: int = 64):
        card = Gpu(
            index=0,
            name="NVIDIA GeForce",
            compute_capability=capability,
            memory_total_bytes=int(gib * GIB),
            memory_free_bytes=int((gib - 0.4 if free is None else free) * GIB),
        )
        return Snapshot(
            os=System(system="Linux", release="6.8", python="3.12.3"),
            host=Host(memory_total_bytes=host * GIB, memory_available_bytes=host * GIB * 9 // 10, cpu_count=8),
            driver=Driver(version="580.95.05", cuda="13.0"),
            torch=Torch(version="2.13.0+cu130", cuda="13.0", arch_list=ARCHES),
            gpus=(card,),
        )

    return make


@pytest.fixture(scope="session")
def any_snapshot() -> st.SearchStrategy[Snapshot]:
    """Machines of all kinds, good and bad."""
    return snapshots()


@pytest.fixture(scope="session")
def any_working_machine() -> st.SearchStrategy[Snapshot]:
    """Machines with a card that torch can use."""
    return working_machines()
