"""Results of every format in a Chromium, with all that qied writes into them."""

from __future__ import annotations

import base64
from typing import Any, get_args

from PIL import Image
from qied_client.picture_file.marks import COMPOSITE, TRAINED, Marks, aigc_label, marks_of_edit, xmp_packet
from qied_client.picture_metadata import PictureMetadata

from qied.edit import OutputFormat
from qied.pictures.encode import encode

LOOK = """async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [canvas.width, canvas.height, ...context.getImageData(0, 0, 1, 1).data];
}"""


def test_chromium_opens_each_with_its_colours_and_its_opacity(browser: Any) -> None:
    metadata = PictureMetadata("把心形变成蓝色", "blurry", 7, 20, 4.0, 96, 200, "builtin", "0.2.0", sources=("a" * 64,))
    xmp = xmp_packet(marks_of_edit([("b" * 64, Marks(TRAINED, c2pa=True))], COMPOSITE, aigc_label("maker", "1")))
    solid, clear = Image.new("RGB", (96, 200), (250, 120, 10)), Image.new("RGBA", (96, 200), (250, 120, 10, 0))
    page = browser.new_page()
    for kind in get_args(OutputFormat):
        for picture, alpha in ((solid, 255), (clear, 255 if kind == "jpeg" else 0)):
            data = encode(picture, kind, metadata, 100, xmp)
            seen = page.evaluate(LOOK, f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
            assert (seen[:2], seen[5]) == ([96, 200], alpha)
            if picture is solid:
                assert all(abs(level - wanted) <= 3 for level, wanted in zip(seen[2:5], (250, 120, 10), strict=True))
    page.close()
