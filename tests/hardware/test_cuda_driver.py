"""The CUDA driver is asked what it gives to programs, and may fail in any way."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import uuid

import pytest

from qied.hardware.cuda_driver import CudaAnswer, ask_cuda, list_cards

FIRST = "49375ffb-ea5f-369d-5212-f34be947e633"
SECOND = "0a1c2f6e-92d4-4c1b-8f52-6a1f0a3be0d7"


class FakeCuda:
    """The driver library's functions, as ctypes calls them."""

    def __init__(self, *cards, code=0, name=b"CUDA_ERROR_UNKNOWN"):
        self.cards = cards
        self.code = code
        self.name = name

    def cuInit(self, flags):
        return self.code

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.cards)
        return 0

    def cuDeviceGetUuid_v2(self, raw, number):
        if self.cards[number] is None:
            return 999
        ctypes.memmove(raw._obj, uuid.UUID(self.cards[number]).bytes, 16)
        return 0

    def cuGetErrorName(self, code, name):
        name._obj.value = self.name
        return 0


def test_cards_are_listed_in_cudas_order():
    assert list_cards(FakeCuda(SECOND, FIRST)) == CudaAnswer((SECOND, FIRST))


def test_a_card_without_uuid_is_left_out():
    assert list_cards(FakeCuda(None, FIRST)).uuids == (FIRST,)


def test_no_card_is_an_answer():
    assert list_cards(FakeCuda(code=100)) == CudaAnswer()


@pytest.mark.parametrize(("name", "told"), [(b"CUDA_ERROR_UNKNOWN", "CUDA_ERROR_UNKNOWN"), (None, "CUDA error 999")])
def test_a_driver_that_does_not_start_is_named_by_its_error(name, told):
    assert list_cards(FakeCuda(code=999, name=name)) == CudaAnswer(error=told)


def test_the_child_process_answers_for_this_machine():
    missing = ask_cuda(os.environ).error == "the CUDA driver library (libcuda) is not installed"
    assert missing == (ctypes.util.find_library("cuda") is None)


def test_a_child_that_cannot_even_start_is_an_answer():
    assert "status" in ask_cuda({"PYTHONHOME": "/nowhere"}).error


def test_a_child_that_hangs_is_an_answer():
    assert ask_cuda(os.environ, limit_s=0.0).error == "no answer within 0 s"
