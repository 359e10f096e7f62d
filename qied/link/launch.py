"""What a worker process is told on its standard input before it connects."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class LaunchOrder:
    """What a worker process is told before it connects. ``engine`` is ``module:function`` of its engine's loader."""

    worker: str
    endpoint: str
    server_key: str
    public_key: str
    secret_key: str = field(repr=False)
    engine: str
    model: str
    profile: str
    device: str
    precision: str
    budget_bytes: int
    cache_bytes: int
    max_active: int
    threads: int
    log_format: str
    log_level: str

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> LaunchOrder:
        """Read it back."""
        return cls(**json.loads(line))
