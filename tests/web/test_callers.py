"""Requests byte for byte as known programs send them, and what those read of the answer."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai.types import ImagesResponse
from PIL import Image

from tests.web.raw import Raw

Part = tuple[str, bytes, str, str]
"""Name, content, file name, content type; without a file name it is a field."""


@dataclass
class Answer:
    """What a raw request got."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures of the answer, each as programs decode it."""
        assert self.status == 200, self.body
        data = json.loads(self.body)["data"]
        return [Image.open(io.BytesIO(base64.b64decode(each["b64_json"], validate=True))) for each in data]


Post = Callable[..., Answer]


@pytest.fixture
def post(gateway, token) -> Iterator[Post]:
    """Send parts as they are, over a real socket."""

    def send(
        parts: Sequence[bytes],
        *,
        query: str = "",
        boundary: str = "f9ef6ff4fd5b4bb6a7f5e3d6d8b0d6c1",
        chunked: bool = False,
        **headers: str,
    ) -> Answer:
        body = (
            b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
        )
        base = urlsplit(f"{gateway.url}/v1").path
        kinds = {"Authorization": f"Bearer {token}", "Content_Type": f"multipart/form-data; boundary={boundary}"}
        with Raw(gateway.url) as raw:
            size = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": str(len(body))}
            raw.head(f"POST {base}/images/edits{query}", **kinds, **size, Connection="close", **headers)
            if chunked:
                for piece in (body[:70], body[70:]):
                    raw.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
                body = b"0\r\n\r\n"
            raw.send(body)
            head, _, rest = raw.rest().partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        named = dict(line.lower().split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), named, rest)

    yield send


@pytest.fixture
def model(gateway, token) -> str:
    """The name of the model, as people read it from the list."""
    answer = httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {token}"})
    return str(answer.json()["data"][0]["id"])


# Open WebUI: aiohttp's forms. Fields first, each with a type; pictures behind them under names that are made up.


def of_aiohttp(name: str, content: bytes | str, filename: str = "", kind: str = "text/plain; charset=utf-8") -> bytes:
    data = content.encode() if isinstance(content, str) else content
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"Content-Type: {kind}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data


def open_webui(model: str, *pictures: bytes, kind: str = "image/png", **fields: str) -> list[bytes]:
    suffix = kind.removeprefix("image/")
    name = "image" if len(pictures) == 1 else "image[]"
    texts = {"model": model, "prompt": "héllo 猫", **fields, "response_format": "b64_json"}
    return [
        *(of_aiohttp(key, value) for key, value in texts.items()),
        *(of_aiohttp(name, picture, f"{uuid.uuid4()}.{suffix}", kind) for picture in pictures),
    ]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("query", ["", "?api-version=2025-04-01-preview"])
def test_open_webui_edits_one_picture(post, model, picture, query, chunked):
    answer = post(open_webui(model, picture, size="64x48"), query=query, chunked=chunked, Accept="*/*")
    assert [made.size for made in answer.pictures] == [(64, 48)]
    assert "url" not in json.loads(answer.body)["data"][0], "it would fetch that, and refuse our address"


def test_open_webui_edits_several_pictures(post, model, picture, make_picture):
    parts = open_webui(model, picture, make_picture(80, 60, (1, 2, 3)), n="2", size="80x64", background="auto")
    assert [made.size for made in post(parts).pictures] == [(80, 64)] * 2


def test_open_webui_sends_jpegs_of_photographs(post, model):
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "JPEG", quality=95)
    assert post(open_webui(model, file.getvalue(), kind="image/jpeg", size="64x48")).status == 200


def test_open_webui_asks_for_a_model_by_a_wrong_name(post, picture):
    answer = post(open_webui("gpt-image-1", picture))
    assert answer.status == 404 and b"This server has" in answer.body


# LiteLLM: httpx's forms. Every picture as image[], under a file's whole path or image.png; unknown members are kept.


def of_httpx(name: str, content: bytes | str, filename: str = "", kind: str = "") -> bytes:
    data = content.encode() if isinstance(content, str) else content
    lines = [f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def test_litellm_edits_with_a_mask_and_strict_types_take_the_answer(post, model, picture):
    mask = io.BytesIO()
    Image.new("RGBA", (64, 48), (0, 0, 0, 0)).save(mask, "PNG")
    parts = [
        *(
            of_httpx(name, text)
            for name, text in {
                "model": model,
                "prompt": "brighter",
                "n": "1",
                "size": "64x48",
                "quality": "low",
                "response_format": "b64_json",
                "user": "proxy-7",
            }.items()
        ),
        of_httpx("image[]", picture, "/home/lin/holiday photos/päris.png", "image/png"),
        of_httpx("mask", mask.getvalue(), "mask.png", "image/png"),
    ]
    answer = post(parts, X_Stainless_Retry_Count="0", OpenAI_Organization="none")
    assert [made.size for made in answer.pictures] == [(64, 48)]
    checked = ImagesResponse.model_validate_json(answer.body, strict=True)
    assert checked.quality == "low" and checked.usage is not None and checked.usage.total_tokens == 0


@pytest.mark.parametrize("quality", [None, "auto", "high", "standard", "draft"])
def test_the_answer_has_only_what_strict_types_know(post, model, picture, quality):
    fields = {"model": model, "prompt": "brighter", "size": "64x48"} | ({"quality": quality} if quality else {})
    parts = [*(of_httpx(name, text) for name, text in fields.items()), of_httpx("image[]", picture, "image.png")]
    answer = post(parts)
    assert answer.status == 200, answer.body
    ImagesResponse.model_validate_json(answer.body, strict=True)


# AI SDK: undici's forms. Pictures are blobs, in the middle; several are image[].


@pytest.mark.parametrize("count", [1, 2])
def test_ai_sdk_edits_pictures(post, model, picture, count):
    parts = [
        of_httpx("model", model),
        of_httpx("prompt", "brighter"),
        *[of_httpx("image" if count == 1 else "image[]", picture, "blob", "image/png")] * count,
        of_httpx("n", "1"),
        of_httpx("size", "64x48"),
    ]
    answer = post(parts, boundary="----formdata-undici-014188264411", Sec_Fetch_Mode="cors", Accept="*/*")
    assert len(answer.pictures) == 1
    assert all(isinstance(each["b64_json"], str) for each in json.loads(answer.body)["data"])


# AIPerf: fields, then one picture; extra inputs are fields as well.


def test_aiperf_loads_the_door(post, model, picture):
    extra = {"size": "64x48", "seed": "7", "num_inference_steps": "2", "guidance_scale": "1.0"}
    fields = {"prompt": "brighter", "model": model, "response_format": "b64_json", "n": "1", **extra}
    parts = [*(of_aiohttp(name, text) for name, text in fields.items())]
    answer = post([*parts, of_aiohttp("image", picture, "image.png", "image/png")])
    assert answer.headers["content-type"] == "application/json"
    found = json.loads(answer.body)
    assert found["data"][0]["seed"] == 7 and found["size"] == "64x48" and found["output_format"] == "png"
    assert found["background"] == "opaque" and found["usage"]["total_tokens"] == 0


def test_a_picture_by_its_address_is_not_fetched(post, model):
    answer = post([of_aiohttp("prompt", "x"), of_aiohttp("url", "http://169.254.169.254/latest/meta-data")])
    assert answer.status == 400 and json.loads(answer.body)["error"]["code"] == "url_not_allowed"


# What every client of OpenAI may send.


@pytest.mark.parametrize("percent", ["0", "1", "100"])
def test_every_compression_of_openai_is_taken(post, picture, percent):
    fields = {"prompt": "x", "size": "64x48", "output_format": "jpeg", "output_compression": percent}
    parts = [*(of_httpx(name, text) for name, text in fields.items()), of_httpx("image", picture, "a.png")]
    assert [made.format for made in post(parts).pictures] == ["JPEG"]


def test_the_sdk_comes_back_when_it_is_told_to(gateway, token, picture):
    """A refusal that says so is repeated by the SDK itself; one that does not is raised at once."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=2) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.images.edit(image=picture, prompt="x", size="9000x16")
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert refused.value.param == "size" and refused.value.code == "invalid_size"
