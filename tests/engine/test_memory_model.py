"""Numbers of the engine that planning counts with: it cannot import them, so they are compared here."""

from qied.engine import layer_streaming, quantise
from qied.planning import memory

FP32_BYTES = 4


def test_planning_knows_the_bytes_of_a_cast() -> None:
    assert memory._CAST_BYTES == FP32_BYTES * quantise._CHUNK_ELEMENTS


def test_planning_knows_how_many_streamed_layers_are_on_the_device() -> None:
    assert memory.STREAMED_SLOTS == layer_streaming.SLOTS
