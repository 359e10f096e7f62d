"""One edit through the whole daemon."""

from __future__ import annotations

import io

from PIL import Image


def test_an_edit_comes_back_with_what_made_it(daemon, picture):
    with daemon.client() as client:
        news = []
        result = client.edit(picture, "do something", seed=7, steps=3, width=64, height=48, on_progress=news.append)
    assert Image.open(io.BytesIO(result.bytes)).size == (64, 48)
    assert (result.seed, result.width, result.height, result.media_type) == (7, 64, 48, "image/png")
    assert {"upload", "started", "step", "preview", "phase", "download"} <= {item.kind for item in news}
