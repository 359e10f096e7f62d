"""The input of the checks: the machine's snapshot, the configuration, the folders and the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qied_client.errors import QiedError

from qied.config import Config
from qied.hardware.snapshot import Gpu, Snapshot
from qied.planning.plan import Plan, Refusal
from qied.serving.model import ServedModel


@dataclass(frozen=True)
class Facts:
    """One machine as the doctor sees it.

    ``config``, ``model`` and ``plan`` are the exceptions that reading, finding or planning raised, where they did;
    None where there was nothing to go by. ``this_machine`` is False where a recorded snapshot is looked at: then files,
    keys and ports of the machine that the doctor runs on say nothing. ``home`` is the daemon's state folder and
    ``user_home`` that of the person; ``now`` is in seconds since the epoch.
    """

    snapshot: Snapshot
    config: Config | QiedError
    model: ServedModel | Exception | None
    plan: Plan | Refusal | Exception | None
    this_machine: bool
    home: Path
    user_home: Path
    environ: Mapping[str, str]
    now: float

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.snapshot.gpus

    def problem(self, *codes: str) -> str | None:
        """What probing said about the first of these problems that it met."""
        return next((problem.message for problem in self.snapshot.problems if problem.code in codes), None)

    @property
    def made_plan(self) -> Plan | None:
        """The plan, where one could be made."""
        return self.plan if isinstance(self.plan, Plan) else None

    def plan_of(self, gpu: Gpu) -> Plan | None:
        """The plan, where it is that of this card; parts of a card share its index and have uuids of their own."""
        plan = self.made_plan
        if plan is None or plan.execution.device != "cuda" or plan.execution.device_index != gpu.index:
            return None
        return plan if plan.gpu_uuid in (None, gpu.uuid) else None

    @property
    def wants_cpu(self) -> bool:
        """Whether the CPU is what was asked for: by configuration, or by the built-in model."""
        chosen = isinstance(self.config, Config) and self.config.model.device == "cpu"
        return chosen or (isinstance(self.model, ServedModel) and self.model.profile_name == "builtin")
