"""NVIDIA cards as NVML shows them; each question may fail by itself, and is then answered with None."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qied.hardware.snapshot import Driver, Gpu, GpuProcess, Pcie, Problem

_PROCESS_LISTS = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
)
"""Newest first: the first one that this driver has is asked."""


@dataclass(frozen=True)
class Cards:
    """What a source knows of driver and cards. ``answered`` is False where it does not work at all here."""

    answered: bool = True
    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_nvml(nvml: Any, name_of: Callable[[int], str | None]) -> Cards:
    """Ask ``nvml`` (the module pynvml, or one that behaves like it); ``name_of`` names processes."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Cards(answered=False, problems=_why_not(nvml, error))
    try:
        return _Reader(nvml, name_of).cards()
    finally:
        nvml.nvmlShutdown()


def _why_not(nvml: Any, error: Exception) -> tuple[Problem, ...]:
    """A machine without the library has no driver, which is nothing to complain about."""
    if isinstance(error, nvml.NVMLError_LibraryNotFound):
        return ()
    if isinstance(error, nvml.NVMLError_DriverNotLoaded):
        return (
            Problem(code="no_driver", message="The NVIDIA driver is installed but its kernel module is not loaded."),
        )
    if isinstance(error, nvml.NVMLError_LibRmVersionMismatch):
        return (
            Problem(
                code="driver_mismatch", message="The loaded NVIDIA kernel module does not match the installed driver."
            ),
        )
    return (Problem(code="nvml_failed", message=f"NVML does not start: {error}."),)


class _Reader:
    """Questions to an NVML that was initialised."""

    def __init__(self, nvml: Any, name_of: Callable[[int], str | None]) -> None:
        self._nvml = nvml
        self._name_of = name_of
        self._problems: list[Problem] = []

    def cards(self) -> Cards:
        count = self._ask("nvmlDeviceGetCount")
        gpus = tuple(gpu for index in range(count or 0) for gpu in self._card(index))
        return Cards(driver=self._driver(), gpus=gpus, problems=tuple(self._problems))

    def _ask(self, call: str, *arguments: Any) -> Any:
        """The answer, or None where the card, the driver or this version of the library has none."""
        function = getattr(self._nvml, call, None)
        if function is None:
            return None
        try:
            return function(*arguments)
        except self._nvml.NVMLError:
            return None

    def _driver(self) -> Driver | None:
        version = self._ask("nvmlSystemGetDriverVersion")
        cuda = self._ask("nvmlSystemGetCudaDriverVersion_v2")
        return None if version is None else Driver(version=_text(version), cuda=_cuda_version(cuda))

    def _card(self, index: int) -> Iterator[Gpu]:
        """The card, or its MIG instances: with MIG on, programs can use only those."""
        try:
            card = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except self._nvml.NVMLError as error:
            self._problems.append(Problem(code="gpu_lost", message=f"Card {index} does not answer: {error}."))
            return
        mode = self._ask("nvmlDeviceGetMigMode", card)
        if not mode or mode[0] != 1:
            yield self._describe(index, card, card)
            return
        for number in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", card) or 0):
            instance = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", card, number)
            if instance is not None:
                yield self._describe(index, card, instance)

    def _describe(self, index: int, card: Any, part: Any) -> Gpu:
        """``part`` is the card itself or one MIG instance; what instances share is asked of the card."""
        memory = self._ask("nvmlDeviceGetMemoryInfo", part)
        uuid, name = self._ask("nvmlDeviceGetUUID", part), self._ask("nvmlDeviceGetName", part)
        display = self._ask("nvmlDeviceGetDisplayActive", card)
        return Gpu(
            index=index,
            uuid=None if uuid is None else _text(uuid),
            name="unknown NVIDIA card" if name is None else _text(name),
            compute_capability=self._ask("nvmlDeviceGetCudaComputeCapability", card),
            memory_total_bytes=None if memory is None else memory.total,
            memory_free_bytes=None if memory is None else memory.free,
            display_active=None if display is None else bool(display),
            pcie=self._pcie(card),
            processes=self._processes(part),
        )

    def _pcie(self, card: Any) -> Pcie | None:
        link = Pcie(
            generation=self._ask("nvmlDeviceGetCurrPcieLinkGeneration", card) or None,
            width=self._ask("nvmlDeviceGetCurrPcieLinkWidth", card) or None,
            generation_max=self._ask("nvmlDeviceGetMaxPcieLinkGeneration", card) or None,
            width_max=self._ask("nvmlDeviceGetMaxPcieLinkWidth", card) or None,
        )
        return None if link == Pcie() else link

    def _processes(self, part: Any) -> tuple[GpuProcess, ...]:
        """Programs on the card, largest first. One that computes and draws is in both lists, with the same bytes."""
        used: dict[int, int | None] = {}
        for versions in _PROCESS_LISTS:
            for process in self._first_answer(versions, part) or ():
                known, told = used.get(process.pid), process.usedGpuMemory
                used[process.pid] = told if known is None else max(known, told or 0)
        found = (GpuProcess(pid=pid, name=self._name_of(pid), used_bytes=size) for pid, size in used.items())
        return tuple(sorted(found, key=lambda process: (-(process.used_bytes or 0), process.pid)))

    def _first_answer(self, calls: tuple[str, ...], *arguments: Any) -> Any:
        return next((answer for call in calls if (answer := self._ask(call, *arguments)) is not None), None)


def _text(value: str | bytes) -> str:
    """Older versions of pynvml answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _cuda_version(number: int | None) -> str | None:
    """NVML counts 1000 for a major and 10 for a minor version: 12060 is 12.6."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"
