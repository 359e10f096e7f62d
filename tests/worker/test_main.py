"""The worker's process, with its link and its engine replaced."""

from __future__ import annotations

import pytest

from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.config.output import Marking
from qied.config.rewriter import Rewriter
from qied.edit import EditSpec
from qied.link import messages as w
from qied.link.engine_port import DeviceLost
from qied.link.launch import LaunchOrder
from qied.planning.plan import Execution
from qied.resources import builtin_model_folder
from qied.worker import __main__ as process
from qied.worker.loop import BeginEdit


class Edit:
    def advance(self):
        raise DeviceLost("cuda:0 no longer answers")


class Engine:
    device, precision, model, budget_bytes, weights_bytes = "test", "fp32", "test", 1, 0
    sweep_room = None

    def views(self, spec, blob, size):
        return ()

    def begin(self, spec, pictures, scope):
        return Edit()

    def forget(self, scope):
        pass

    def device_memory(self):
        return None


class Link:
    reports: list[object]

    def __init__(self, order, orders, on_lost):
        self.reports = []
        Link.last = self
        spec = EditSpec(("a" * 64,), "go", None, 1, 3, 1.0, 16, 16)
        orders.put(BeginEdit(w.Begin("anna", "one", spec, "anna.user", 1, False), {}))

    def offer(self, offer, views_of):
        self.report(offer)

    def report(self, message):
        self.reports.append(message)


class Left(BaseException):
    """Stands in for the end of the process."""


def launch_order():
    execution = Execution("cpu", 0, "fp32", None, "fp32", 1, 1, 0, "resident", None, None, False, 0, 1)
    names = LaunchOrder.__dataclass_fields__
    values = {name: 0 if field.type == "int" else "" for name, field in names.items()}
    values = {**values, "marking": Marking(), "rewriter": Rewriter()}
    checkpoint = pipeline_checkpoint(builtin_model_folder())
    return LaunchOrder(
        **{**values, "execution": execution, "card": {}, "loras": {}, "upscalers": {}, "checkpoint": checkpoint}
    )


def test_a_lost_device_ends_the_process_with_an_error_and_leaves_the_jobs_to_the_next_one(monkeypatch):
    def leave(code):
        raise Left(code)

    monkeypatch.setattr(process, "_first_line", lambda: launch_order().to_line())
    monkeypatch.setattr(process, "leave_with_parent", lambda: None)
    monkeypatch.setattr(process, "set_up_logs", lambda *_: None)
    monkeypatch.setattr(process.signal, "signal", lambda *_: None)
    monkeypatch.setattr(process, "load_by_name", lambda _: lambda order, on_loading: Engine())
    monkeypatch.setattr(process, "Link", Link)
    monkeypatch.setattr(process.os, "_exit", leave)
    with pytest.raises(Left) as left:
        process.main()
    assert left.value.args[0] not in {0, None}
    assert not any(isinstance(report, w.EditFailed) for report in Link.last.reports)
