"""The worker's side of the link, with its connection to the front replaced."""

from __future__ import annotations

import io
import queue
import threading
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from PIL import Image
from qied_client.picture_file.marks import Marks
from qied_client.picture_metadata import read_metadata
from qied_client.transfers import hash_of

from qied.config.output import Marking
from qied.config.rewriter import Rewriter
from qied.edit import EditSpec
from qied.link import messages as w
from qied.pictures.mask import told
from qied.planning.edits.view import View
from qied.worker.active_edit import ActiveEdit
from qied.worker.carried import TRANSPARENT, Carried
from qied.worker.link import Link


def png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def painted() -> Image.Image:
    """Strokes on a clear canvas."""
    image = Image.new("RGBA", (32, 32))
    image.paste((200, 0, 0, 255), (0, 0, 16, 32))
    return image


BLACK, GREY, INK = png(Image.new("L", (32, 32))), png(Image.new("L", (32, 32), 200)), png(painted())
SPEC = EditSpec((hash_of(GREY),), "go", None, 7, 3, 1.0, 32, 16, precision="fp8", preset="draft", warnings=("before",))


class Driver:
    def __init__(self) -> None:
        self.blobs = {hash_of(data): data for data in (BLACK, GREY, INK)}
        self.said: queue.SimpleQueue[object] = queue.SimpleQueue()

    async def download(self, blob: str) -> bytes:
        return self.blobs[blob]

    async def upload(self, blob: str, data: memoryview) -> None:
        self.blobs[blob] = bytes(data)

    def say(self, message: object) -> None:
        self.said.put(message)

    async def close(self) -> None:
        pass


class Order:
    decoding_bytes = 512 * 1024**2
    results_bytes = 200 * 1024**2
    marking = Marking()
    rewriter = Rewriter()


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch):
    driver = Driver()

    async def opened(self: Link) -> Driver:
        return driver

    monkeypatch.setattr(Link, "_open", opened)
    orders: queue.SimpleQueue = queue.SimpleQueue()
    made = Link(Order(), orders, lambda error: None)
    made.offer(None, lambda spec, blob, size: (View(spec.width, spec.height),))
    driver.said.get(timeout=20)
    yield made, driver, orders
    made._pictures.close()
    made._pool.shutdown()
    made._loop.call_soon_threadsafe(made._loop.stop)
    for thread in [each for each in threading.enumerate() if each.name == "link"]:
        thread.join()
    made._loop.close()


def begin(**fields: object) -> w.Begin:
    return w.Begin("ann", "one", replace(SPEC, **fields), "ann.user", 1, False)


@pytest.mark.parametrize(
    ("mask", "mode", "warnings"),
    [
        (None, "auto", ()),
        (hash_of(GREY), "auto", ()),
        (hash_of(INK), "auto", told("painted")),
        (hash_of(INK), "opaque", ()),
    ],
    ids=["none", "some", "guessed", "said"],
)
def test_how_a_mask_was_read_is_told_with_the_pictures_of_an_edit(link, mask, mode, warnings):
    made, driver, orders = link
    made._loop.call_soon_threadsafe(partial(made._pushed, begin(mask=mask, mask_mode=mode)))
    order = orders.get(timeout=60)
    assert isinstance(driver.said.get(timeout=20), w.Prepared)
    assert order.carried.warnings == warnings
    assert set(order.pictures) == {hash_of(GREY), *filter(None, [mask])}


def test_a_mask_that_marks_nothing_ends_the_edit_before_it_computes(link):
    made, driver, orders = link
    made._loop.call_soon_threadsafe(partial(made._pushed, begin(mask=hash_of(BLACK))))
    failed = driver.said.get(timeout=60)
    assert isinstance(failed, w.EditFailed) and failed.code == "invalid_request"
    assert "it marks nothing to edit" in failed.message and orders.empty()


def test_a_result_is_reported_with_its_warnings_and_a_thumbnail(link):
    made, driver, _ = link
    edit = ActiveEdit(begin(width=512, height=256), cast("Any", None), Carried(told("hole")))
    made.deliver(edit, Image.new("RGB", edit.begin.spec.size, (40, 80, 220)), "builtin")
    report = driver.said.get(timeout=20)
    assert isinstance(report, w.EditFinished) and report.warnings == told("hole")
    assert report.drift is None and report.timings.keys() == {"held_ms", "align_ms", "encode_ms"}
    with Image.open(io.BytesIO(report.thumbnail)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (256, 128))
    metadata = read_metadata(driver.blobs[report.blob])
    assert metadata is not None and metadata.warnings == ("before", *told("hole"))
    assert (metadata.precision, metadata.preset, metadata.sources) == ("fp8", "draft", SPEC.images)


def test_the_opacity_and_the_marks_of_the_first_picture_go_along(link):
    made, _, orders = link
    made._views_of = lambda spec, blob, size: (View(spec.width, spec.height), View(spec.width, spec.height, "opacity"))
    made._loop.call_soon_threadsafe(partial(made._pushed, begin(images=(hash_of(INK),), background="auto")))
    carried = orders.get(timeout=60).carried
    assert carried.opacity.getpixel((2, 2)) == 255 and carried.opacity.getpixel((30, 2)) == 0
    assert carried.warnings == (TRANSPARENT,) and carried.inputs == ((hash_of(INK), Marks()),)
    # Its own hole as the mask: what is made there is to be seen.
    made._loop.call_soon_threadsafe(
        partial(
            made._pushed, begin(images=(hash_of(INK),), background="auto", mask=hash_of(INK), mask_mode="transparent")
        )
    )
    assert orders.get(timeout=60).carried.opacity is None
    for background, output_format in (("opaque", "png"), ("auto", "jpeg")):
        spec = begin(images=(hash_of(INK),), background=background, output_format=output_format)
        made._loop.call_soon_threadsafe(partial(made._pushed, spec))
        assert orders.get(timeout=60).carried.opacity is None


def test_a_prompt_that_is_rewritten_replaces_the_user_s_which_goes_along(link):
    made, _, orders = link
    made._order.rewriter = Rewriter(command=("sed", "s/$/ at night/"))
    made._loop.call_soon_threadsafe(partial(made._pushed, begin(rewrite=True)))
    order = orders.get(timeout=60)
    assert (order.begin.spec.prompt, order.carried.original_prompt) == ("go at night", "go")
    made._loop.call_soon_threadsafe(partial(made._pushed, begin()))
    assert orders.get(timeout=60).begin.spec.prompt == "go", "nobody asked for it"


def test_large_results_wait_for_room_until_one_before_them_ends(link):
    made, driver, orders = link
    large = {"upscale": "it", "upscale_by": 64}  # of 2 megapixels each: the room is for one
    for job in ("one", "two", "three"):
        made._loop.call_soon_threadsafe(partial(made._pushed, replace(begin(**large), job=job)))
    assert isinstance(driver.said.get(timeout=60), w.Prepared)
    assert orders.get(timeout=20).begin.job == "one"
    # A small one is kept waiting by none of them, and by then another large one would have come.
    made._loop.call_soon_threadsafe(partial(made._pushed, replace(begin(), job="small")))
    assert isinstance(driver.said.get(timeout=60), w.Prepared)
    assert orders.get(timeout=20).begin.job == "small"
    made._loop.call_soon_threadsafe(partial(made._pushed, w.StopEdit("ann", "two")))
    cancelled = driver.said.get(timeout=20)
    assert isinstance(cancelled, w.EditFailed) and (cancelled.job, cancelled.code) == ("two", "job_cancelled")
    made.report(w.EditFailed("ann", "one", "failed", "It failed.", "", False))
    assert isinstance(driver.said.get(timeout=20), w.EditFailed)
    assert isinstance(driver.said.get(timeout=60), w.Prepared)
    assert orders.get(timeout=20).begin.job == "three"
