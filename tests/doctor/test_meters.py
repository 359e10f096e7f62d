"""Memory is read while something happens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from qied_client.errors import SetupError

from qied.doctor.meters import card_meter, host_meter, watching


def test_a_peak_that_has_gone_again_is_seen():
    level, seen = [1], threading.Event()

    def meter():
        if level[0] == 9:
            seen.set()
        return level[0]

    with watching(meter) as peak:
        level[0] = 9
        assert seen.wait(10)
        level[0] = 2
    assert peak.bytes == 9


def test_the_children_of_a_process_count_and_not_itself():
    with host_meter() as meter_of:
        meter = meter_of(os.getpid())
    before = meter()
    script = "b = bytearray(64 * 2**20); print('there', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline()
        grown = meter() - before
        child.communicate(b"\n")
    assert grown > 64 * 2**20


def test_a_process_that_is_gone_takes_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with host_meter() as meter_of:
        assert meter_of(child.pid)() == 0


class Card:
    """A driver whose card is used by others, and then by a daemon."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        self.used = 3 * 2**30
        self.open = 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetMemoryInfo(self, handle):
        assert handle == "GPU-5e1f7e57-0000-4000-8000-000000000001"
        return self


def test_of_a_cards_memory_only_what_came_after_the_start_counts(machine):
    nvml = Card()
    with card_meter(machine().gpus[0], nvml) as meter_of:
        nvml.used += 5 * 2**30
        assert meter_of(1)() == 5 * 2**30
    assert nvml.open == 0


def test_a_driver_that_does_not_answer_is_a_typed_error(machine):
    class Silent(Card):
        def nvmlInit(self):
            raise self.NVMLError("Driver Not Loaded")

    with pytest.raises(SetupError, match="Driver Not Loaded"), card_meter(machine().gpus[0], Silent()):
        pass
