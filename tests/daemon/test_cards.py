"""The whole daemon on real cards: faults of the device cost what they must and no more, and every card works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from qied_client.errors import JobPoisoned

from qied.hardware.probe import probe
from qied.hardware.visibility import select_card
from qied.resources import builtin_model_folder

pytestmark = [
    pytest.mark.card,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card"),
    pytest.mark.timeout(300),
]
PICTURE = builtin_model_folder().parent / "demo.png"
REAL, FAULTY = "qied.engine.serving:load", "faulty_engine:load"
BUDGET = {"QIED_WORKER_BUDGET_BYTES": "4000000000"}


def test_a_lost_device_ends_its_worker_and_poisons_only_the_job_that_lost_it(start_daemon):
    daemon = start_daemon(engine=FAULTY, QIED_MODEL_GPUS="0", **BUDGET)
    with daemon.client(patience=120.0) as client:
        before = client.edit(PICTURE, "make the red heart blue", seed=1, steps=3).bytes
        worker = daemon.worker_pid
        with pytest.raises(JobPoisoned):
            client.edit(PICTURE, "break the context", seed=1, steps=3)
        assert client.edit(PICTURE, "make the red heart blue", seed=1, steps=3).bytes == before
        (row,) = client.status().workers
    assert row.restarts == 2
    assert daemon.worker_pid != worker


def test_memory_that_runs_out_on_the_card_is_tried_again_and_costs_nobody_a_job(start_daemon):
    daemon = start_daemon(engine=FAULTY, QIED_MODEL_GPUS="0", **BUDGET)
    with daemon.client(patience=120.0) as client:
        worker = daemon.worker_pid
        jobs = [
            client.submit(PICTURE, prompt, seed=1, steps=3) for prompt in ("fill the card", "make the red heart blue")
        ]
        filled, beside = (job.result().bytes for job in jobs)
        assert client.edit(PICTURE, "fill the card", seed=1, steps=3).bytes == filled
        assert client.edit(PICTURE, "make the red heart blue", seed=1, steps=3).bytes == beside
        (row,) = client.status().workers
    assert (row.restarts, daemon.worker_pid) == (0, worker)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two cards")
def test_each_card_gets_a_worker_and_every_one_of_them_gives_the_same_bytes(start_daemon):
    daemon = start_daemon(engine=REAL, QIED_WORKER_MAX_ACTIVE="2", **BUDGET)
    while sum(line.get("event") == "worker ready" for line in daemon.log) < torch.cuda.device_count():
        daemon.wait_for("worker ready")
    with daemon.client(patience=120.0) as client:
        jobs = [client.submit(PICTURE, "make the red heart blue", seed=1, steps=12) for _ in range(16)]
        assert len({job.result().bytes for job in jobs}) == 1
        rows = client.status().workers
    assert len(rows) == torch.cuda.device_count()
    assert all(row.state == "ready" for row in rows)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two cards")
def test_the_cards_that_were_named_are_the_ones_that_are_used(start_daemon):
    daemon = start_daemon(engine=REAL, QIED_MODEL_GPUS="1", **BUDGET)
    environment = Path(f"/proc/{daemon.worker_pid}/environ").read_bytes().split(b"\0")
    second = probe(os.environ).gpus[1]
    assert all(f"{name}={value}".encode() in environment for name, value in select_card(second).items())
    with daemon.client(patience=120.0) as client:
        client.edit(PICTURE, "make the red heart blue", seed=1, steps=3)
        (row,) = client.status().workers
    assert row.state == "ready"
