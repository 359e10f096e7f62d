"""One edit of the built-in model by the Python client, and the same by HTTP, one after the other."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from qied_client import Client

from qied.resources import builtin_model_folder
from web_bench.http import BOUNDARY, form

SIDE = 256
PROMPT = "make the red heart blue"


@dataclass(frozen=True)
class Pair:
    """Milliseconds of the same kind of edit: by the client, over a kept connection, and over a new one."""

    client: float
    kept: float
    new: float


class Editor:
    """Edits a new picture each time, so that nobody has anything of it in a cache."""

    def __init__(self, key: Path, port: int, token: str) -> None:
        self._key, self._port, self._token = key, port, token
        self._demo = Image.open(builtin_model_folder().parent / "demo.png").convert("RGB").resize((SIDE, SIDE))
        self._number = 0

    def pairs(self, count: int) -> list[Pair]:
        """``count`` edits of each way; the order turns round each time."""
        kept = http.client.HTTPConnection("127.0.0.1", self._port)
        with Client(self._key) as client:
            found = []
            for number in range(count):
                ways = {
                    "client": lambda: self._by_client(client),
                    "kept": lambda: self._by_http(kept),
                    "new": lambda: self._by_http(http.client.HTTPConnection("127.0.0.1", self._port)),
                }
                names = list(ways)
                turned = names[number % len(names) :] + names[: number % len(names)]
                times = {name: ways[name]() for name in turned}
                found.append(Pair(**times))
        kept.close()
        return found

    def _by_client(self, client: Client) -> float:
        data = self._next_picture()
        began = time.perf_counter()
        result = client.edit(data, PROMPT, steps=1, width=SIDE, height=SIDE, seed=self._number, previews=False)
        taken = (time.perf_counter() - began) * 1000
        assert result.image.size == (SIDE, SIDE)
        return taken

    def _by_http(self, connection: http.client.HTTPConnection) -> float:
        fields = {"prompt": PROMPT, "steps": "1", "size": f"{SIDE}x{SIDE}", "seed": str(self._number)}
        data = self._next_picture()
        began = time.perf_counter()
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        }
        connection.request("POST", "/v1/images/edits", form(fields, data), headers)
        answer = json.loads(connection.getresponse().read())
        picture = base64.b64decode(answer["data"][0]["b64_json"])
        taken = (time.perf_counter() - began) * 1000
        assert Image.open(io.BytesIO(picture)).size == (SIDE, SIDE)
        return taken

    def _next_picture(self) -> bytes:
        self._number += 1
        picture = self._demo.copy()
        picture.putpixel((0, 0), (self._number % 256, self._number // 256, 7))
        target = io.BytesIO()
        picture.save(target, "PNG")
        return target.getvalue()
