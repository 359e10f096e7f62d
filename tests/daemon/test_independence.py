"""A job's pixels do not depend on its neighbours, nor on the order in which they came."""

from __future__ import annotations

import random
from typing import Any

import pytest

from qied.resources import builtin_model_folder

PICTURE = builtin_model_folder().parent / "demo.png"
JOBS: list[dict[str, Any]] = [
    {"prompt": "make the red heart blue", "width": 256, "height": 256, "steps": 3, "true_cfg_scale": 1.0},
    {"prompt": "remove the red heart", "width": 192, "height": 256, "steps": 5, "true_cfg_scale": 2.0},
    {"prompt": "make the red heart green", "width": 256, "height": 160, "steps": 4, "true_cfg_scale": 4.0},
    {"prompt": "make the background blue", "width": 128, "height": 128, "steps": 8, "true_cfg_scale": 1.0},
    {"prompt": "make the red heart smaller", "width": 160, "height": 208, "steps": 2, "true_cfg_scale": 3.0},
    {"prompt": "turn the red heart into a star", "width": 224, "height": 128, "steps": 6, "true_cfg_scale": 1.5},
]


@pytest.mark.timeout(300)
def test_six_different_jobs_give_the_same_bytes_alone_and_packed_in_any_order(start_daemon):
    daemon = start_daemon(engine="qied.engine.serving:load", QIED_WORKER_CACHE_BYTES="0")
    with daemon.client(patience=60.0) as client:
        alone = [client.edit(PICTURE, seed=seed, **job).bytes for seed, job in enumerate(JOBS)]
        assert len(set(alone)) == len(JOBS)
        for chance in range(3):
            order = list(range(len(JOBS)))
            random.Random(chance).shuffle(order)
            packed = {seed: client.submit(PICTURE, seed=seed, **JOBS[seed]) for seed in order}
            assert [packed[seed].result().bytes for seed in range(len(JOBS))] == alone
    most = max(line["active"] for line in daemon.log if line.get("event") == "started")
    assert most == len(JOBS), "they were really packed"
