"""The hardware snapshot, schema 1: what probing writes and what planning and the doctor read."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from qied_client.errors import ConfigError


def capability_text(capability: tuple[int, int]) -> str:
    """A compute capability such as ``8.9``."""
    return f"{capability[0]}.{capability[1]}"


class _Facts(BaseModel):
    """Bytes are integers; what is not known is None, never a guess."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class System(_Facts):
    """The operating system and the Python that qied runs in."""

    system: str
    release: str
    python: str


class Host(_Facts):
    """Memory of the machine. ``memory_limit_bytes`` is the container's, ``memlock_limit_bytes`` that of pinning.

    ``memory_limit_used_bytes`` is what the container takes of its limit, without files that the kernel would drop. A
    limit of None means that there is none, or that it is not known.
    """

    memory_total_bytes: int | None = Field(default=None, ge=0)
    memory_available_bytes: int | None = Field(default=None, ge=0)
    memory_limit_bytes: int | None = Field(default=None, ge=0)
    memory_limit_used_bytes: int | None = Field(default=None, ge=0)
    memlock_limit_bytes: int | None = Field(default=None, ge=0)
    cpu_count: int | None = Field(default=None, ge=1)


class Driver(_Facts):
    """The NVIDIA driver, and the newest CUDA that it speaks."""

    version: str
    cuda: str | None = None


class Torch(_Facts):
    """The installed torch: its CUDA (None for a CPU build) and the kernels that it has, such as ``sm_90``.

    ``arch_list`` and ``cudnn`` need an import of torch: they are empty and None where there is no card to use them on,
    and where the import failed (then a problem says so).
    """

    version: str
    cuda: str | None = None
    arch_list: tuple[str, ...] = ()
    cudnn: str | None = None


class Pcie(_Facts):
    """The card's link. An idle link reports a lower generation than it uses under load."""

    generation: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    generation_max: int | None = Field(default=None, ge=1)
    width_max: int | None = Field(default=None, ge=1)


class GpuProcess(_Facts):
    """A program that uses the card."""

    pid: int
    name: str | None = None
    used_bytes: int | None = Field(default=None, ge=0)


class Trial(_Facts):
    """One kernel that was run on the card. Where ``ok`` is False, ``error`` says why."""

    ok: bool
    tflops: float | None = Field(default=None, ge=0)
    relative_error: float | None = Field(default=None, ge=0)
    error: str | None = None


class SelfTest(_Facts):
    """The results of small kernels, run in a child process; a trial of None was not run.

    ``attention`` has a trial for each backend and head size, such as ``flash_128``, and
    ``fp8_attention_128`` for the one in FP8, which costs accuracy.
    """

    bf16: Trial | None = None
    fp8_rowwise: Trial | None = None
    fp8_tensorwise: Trial | None = None
    fp8_storage: Trial | None = None
    int8: Trial | None = None
    attention: dict[str, Trial] = Field(default_factory=dict)
    host_to_device_bytes_per_s: int | None = Field(default=None, ge=0)
    host_to_device_error: str | None = None


class Gpu(_Facts):
    """One card as the driver shows it, or one MIG instance of a card; ``selftest`` is None where nothing ran.

    ``index`` is NVML's and that of the whole card; the ``uuid`` names the card or instance and selects it.
    """

    index: int = Field(ge=0)
    uuid: str | None = None
    name: str
    compute_capability: tuple[int, int] | None = None
    memory_total_bytes: int | None = Field(default=None, ge=0)
    memory_free_bytes: int | None = Field(default=None, ge=0)
    display_active: bool | None = None
    pcie: Pcie | None = None
    processes: tuple[GpuProcess, ...] = ()
    selftest: SelfTest | None = None


class Problem(_Facts):
    """Something that probing could not find out, and why; ``code`` is stable.

    ``no_driver``: a card without a loaded driver. ``driver_mismatch``: the loaded driver is not the installed one.
    ``nvml_failed``, ``gpu_lost``: the driver's management library. ``cuda_failed``: CUDA itself does not start.
    ``cuda_misses_card``: CUDA starts, and leaves out a card that the driver shows.
    ``gpus_hidden``: CUDA_VISIBLE_DEVICES leaves no card. ``torch_broken``: torch is installed and cannot be imported.
    """

    code: Literal[
        "no_driver",
        "driver_mismatch",
        "nvml_failed",
        "gpu_lost",
        "cuda_failed",
        "cuda_misses_card",
        "gpus_hidden",
        "torch_broken",
    ]
    message: str


class Snapshot(_Facts):
    """One machine. Planning is a pure function of it, so a decision can be replayed anywhere.

    ``gpus`` are the cards that CUDA_VISIBLE_DEVICES leaves, in CUDA's own order.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    os: System
    host: Host
    driver: Driver | None = None
    torch: Torch | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    problems: tuple[Problem, ...] = ()

    def to_json(self) -> str:
        """The document, two spaces a level."""
        return self.model_dump_json(by_alias=True, indent=2)


def driver_system(snapshot: Snapshot) -> str:
    """Whose driver versions count: Linux inside Windows (WSL) uses the driver of Windows."""
    return "Windows" if "microsoft" in snapshot.os.release.lower() else snapshot.os.system


def read_snapshot(text: str | bytes, source: str = "snapshot") -> Snapshot:
    """Read a document of schema 1; raises ConfigError that names ``source`` and the first wrong field."""
    try:
        return Snapshot.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise ConfigError(
            f"{source}: {where}: {first['msg']}.", "Record it again with: qied probe --json > machine.json"
        ) from None
