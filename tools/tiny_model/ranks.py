"""Several GPUs of one machine, a process for each: who it is, and what all of them agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process and how many there are. Alone unless torchrun started it."""

    own: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.own == 0

    def share(self, batch: int) -> int:
        """This process's part of a batch. Raises ValueError where it does not come out even."""
        if batch % self.count:
            raise ValueError(f"a batch of {batch} cannot be split over {self.count} processes")
        return batch // self.count

    def average(self, values: Tensor) -> None:
        """Put the mean over all processes in the place of ``values``."""
        if self.count > 1:
            dist.all_reduce(values, dist.ReduceOp.AVG)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether ``flag`` is set in some process."""
        if self.count == 1:
            return flag
        flags = torch.tensor(float(flag), device=device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())


ALONE = Ranks()


def join() -> Ranks:
    """The ranks that torchrun's environment variables name; binds this process to its GPU."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl", device_id=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
    return Ranks(dist.get_rank(), count)


def leave() -> None:
    """Undo ``join``."""
    if dist.is_initialized():
        dist.destroy_process_group()
