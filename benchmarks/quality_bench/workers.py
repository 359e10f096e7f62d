"""Runs jobs in worker processes, each with one thread and a model of its own; no result depends on their number."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

from quality_bench.engines import Engines, Model
from quality_bench.jobs import Job, Outcome, picture_of, run, tensor_of
from tools.tiny_model.metrics import psnr
from tools.tiny_model.scenes import Scene

CPU_WORKERS, CUDA_WORKERS = 8, 6
"""Most of them. The model is so small that a card waits for the host: several processes share it."""

T = TypeVar("T")
R = TypeVar("R")
_engines: list[Engines] = []


def workers_for(device: str, cores: int) -> int:
    """How many processes a device is kept busy with."""
    return min(cores, CUDA_WORKERS if device == "cuda" else CPU_WORKERS)


class Workers:
    """``count`` processes; one means this one. They end with the context."""

    def __init__(self, model: Model, count: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if count > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count, context, _start, (model,))
        else:
            _start(model)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what has not begun, and end the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        _engines.clear()

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[list[Outcome]]:
        """Run jobs; what each gave, as they end."""
        return self._results(_run, jobs)

    def vae_psnr(self, scenes: Iterable[Scene], *, bf16: bool) -> Iterator[float]:
        """PSNR in dB of each scene through the VAE and back, as they end; the VAE in FP32, or as the engine has it."""
        return self._results(_through_bf16_vae if bf16 else _through_vae, scenes)

    def _results(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        if self._pool is None:
            yield from map(work, items)
        else:
            for future in as_completed([self._pool.submit(work, item) for item in items]):
                yield future.result()


def _start(model: Model) -> None:
    torch.set_num_threads(1)
    _engines[:] = [Engines(model)]


def _run(job: Job) -> list[Outcome]:
    (engines,) = _engines
    return run(job, engines.engine(job.row), engines.model.device)


def _through_vae(scene: Scene) -> float:
    return _through(scene, bf16=False)


def _through_bf16_vae(scene: Scene) -> float:
    return _through(scene, bf16=True)


def _through(scene: Scene, *, bf16: bool) -> float:
    (engines,) = _engines
    vae = engines.bf16_vae if bf16 else engines.vae
    picture = picture_of(scene)
    with torch.inference_mode():
        back = vae.decode(vae.encode(picture, picture.size))
    return float(psnr(tensor_of(back)[None], tensor_of(picture)[None]))
