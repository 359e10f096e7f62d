"""The launch order that a worker process reads from standard input before it connects, and its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from qied.checkpoints.checkpoint import Checkpoint
from qied.config.output import Marking
from qied.config.rewriter import Rewriter
from qied.loras.catalogue import LoraFile
from qied.planning.edits.pictures import DECODING_ROOM, RESULTS_ROOM
from qied.planning.edits.upscaling import UpscalerFacts
from qied.planning.plan import Execution, PreviewDecoder, SecondPrecision
from qied.upscalers.catalogue import UpscalerFile


@dataclass(frozen=True)
class LaunchOrder:
    """What a worker process reads before it connects. ``engine`` is ``module:function`` of its engine loader.

    ``execution`` is how the model is run; ``budget_bytes`` bounds the device memory of the whole process: as planned,
    ``fixed_bytes`` go to everything but edits and ``edits_bytes`` to those. ``card`` holds the variables under which
    the process sees its card alone. ``kind`` names workers on which an edit takes the same bytes. ``loras`` are the
    files that edits may name; those on the device take ``lora_bytes`` at most. Models that had to be quantised are kept
    in ``packed_folder`` within ``packed_bytes`` where there is one, modulation tables likewise, and
    ``free_reserve_bytes`` of their disk are left alone. ``log_folder`` is where its log file is, if anywhere. Pictures
    are decoded in ``decoding_bytes`` of the host, and large results made in ``results_bytes``. ``marking`` says how
    results are marked as made by AI, ``rewriter`` what rewrites prompts, ``upscalers`` which models enlarge.
    """

    worker: str
    endpoint: str
    server_key: str
    public_key: str
    secret_key: str = field(repr=False)
    engine: str
    checkpoint: Checkpoint
    profile: str
    execution: Execution
    kind: str
    card: dict[str, str]
    budget_bytes: int
    fixed_bytes: int
    edits_bytes: int
    cache_bytes: int
    max_active: int
    threads: int
    log_format: str
    log_level: str
    loras: dict[str, LoraFile] = field(default_factory=dict)
    lora_bytes: int = 0
    packed_folder: str = ""
    packed_bytes: int = 0
    modulation_folder: str = ""
    modulation_bytes: int = 0
    free_reserve_bytes: int = 0
    log_folder: str = ""
    decoding_bytes: int = DECODING_ROOM
    results_bytes: int = RESULTS_ROOM
    marking: Marking = field(default_factory=Marking)
    upscalers: dict[str, UpscalerFile] = field(default_factory=dict)
    rewriter: Rewriter = field(default_factory=Rewriter)

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> LaunchOrder:
        """Read it back."""
        fields = json.loads(line)
        execution = fields["execution"]
        execution["attention"] = tuple(execution["attention"])
        if execution["preview_decoder"] is not None:
            execution["preview_decoder"] = PreviewDecoder(**execution["preview_decoder"])
        if execution["second"] is not None:
            execution["second"] = SecondPrecision(**execution["second"])
        loras = {name: LoraFile(**file) for name, file in fields["loras"].items()}
        upscalers = {
            name: UpscalerFile(**{**file, "facts": UpscalerFacts(**file["facts"])})
            for name, file in fields["upscalers"].items()
        }
        checkpoint = Checkpoint.from_json(fields["checkpoint"])
        rewriter = Rewriter(**{**fields["rewriter"], "command": tuple(fields["rewriter"]["command"])})
        marking = Marking(**fields["marking"])
        parts = {
            "loras": loras,
            "checkpoint": checkpoint,
            "marking": marking,
            "rewriter": rewriter,
            "upscalers": upscalers,
        }
        return cls(**{**fields, "execution": Execution(**execution), **parts})

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The environment of the process: what was inherited, with one card visible.

        Segments that grow keep torch's allocator from losing memory to fragments.
        """
        environment = {**inherited, **self.card}
        if self.execution.device == "cuda":
            environment.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        return environment
