"""The openai package, unmodified, edits pictures through the gateway."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator

import openai
import pytest
from PIL import Image
from qied_client.picture_metadata import read_metadata

from tests.web.conftest import GatewayProcess


@pytest.fixture(scope="module")
def sdk(gateway: GatewayProcess, token: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0) as client:
        yield client


def picture_of(item) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(item.b64_json)))


def mask(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", size, (0, 0, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_one_picture(sdk, picture):
    answer = sdk.images.edit(image=("in.png", picture), prompt="brighter", size="64x48", quality="low")
    assert answer.size == "64x48" and answer.output_format == "png"
    assert picture_of(answer.data[0]).size == (64, 48)
    assert answer.data[0].seed >= 0 and answer.data[0].id.startswith("web-")


def test_three_pictures_and_a_mask(sdk, picture):
    images = [(f"{number}.png", picture) for number in range(3)]
    answer = sdk.images.edit(
        image=images, mask=("mask.png", mask((64, 48))), prompt="all together", size="64x48", extra_body={"steps": 2}
    )
    assert picture_of(answer.data[0]).size == (64, 48)


def test_four_results_have_seeds_that_follow_each_other(sdk, picture):
    answer = sdk.images.edit(image=picture, prompt="four", n=4, size="64x48", extra_body={"seed": 41, "steps": 1})
    assert [item.seed for item in answer.data] == [41, 42, 43, 44]


@pytest.mark.parametrize(
    "lora",
    [
        "builtin-outline",
        ["builtin-outline"],
        {"builtin-outline": 0.5},
        [{"name": "builtin-outline", "scale": 0.5}],
        '[{"name": "builtin-outline", "scale": 0.5}]',
    ],
    ids=["name", "names", "strengths", "objects", "text"],
)
def test_loras_in_every_form_of_an_extra_body(sdk, picture, lora):
    extra = {"steps": 1, "lora": lora, "guidance_scale": 1.0, "true_cfg_scale": 2.5}
    answer = sdk.images.edit(image=picture, prompt="brighter", size="64x48", extra_body=extra)
    made = read_metadata(base64.b64decode(answer.data[0].b64_json))
    assert made is not None and made.true_cfg_scale == 2.5
    assert made.loras == (("builtin-outline", 1.0 if lora in ("builtin-outline", ["builtin-outline"]) else 0.5),)


@pytest.mark.parametrize(("kind", "quality"), [("jpeg", 60), ("webp", 100), ("png", 100)])
def test_every_format(sdk, picture, kind, quality):
    answer = sdk.images.edit(
        image=picture, prompt="brighter", size="64x48", output_format=kind, output_compression=quality
    )
    assert picture_of(answer.data[0]).format == kind.upper()


def test_the_async_client_does_many_at_once(gateway, token, picture):
    async def edits() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=token) as client:
            calls = (
                client.images.edit(image=picture, prompt=f"number {number}", size="64x48", extra_body={"steps": 1})
                for number in range(12)
            )
            return [answer.data[0].id for answer in await asyncio.gather(*calls)]

    assert len(set(asyncio.run(edits()))) == 12


def test_the_model_is_listed(sdk):
    (model,) = sdk.models.list().data
    assert sdk.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-image-9' here"):
        sdk.models.retrieve("gpt-image-9")


@pytest.mark.parametrize(
    ("options", "kind", "param"),
    [
        ({"size": "20000x48"}, openai.BadRequestError, "size"),
        ({"n": 11}, openai.BadRequestError, "n"),
        ({"background": "transparent", "output_format": "jpeg"}, openai.BadRequestError, None),
        ({"extra_body": {"sede": 3}}, openai.BadRequestError, "sede"),
        ({"extra_body": {"lora": "nobody"}}, openai.BadRequestError, None),
        ({"extra_body": {"lora": [{"name": "a", "scale": 1}, {"name": "b"}]}}, openai.BadRequestError, "lora"),
        ({"extra_body": {"lora": {"a": "much"}}}, openai.BadRequestError, "lora"),
        ({"extra_body": {"lora": [{"name": "a", "rank": 1}]}}, openai.BadRequestError, "lora[][rank]"),
        ({"model": "gpt-image-9"}, openai.NotFoundError, "model"),
    ],
)
def test_errors_are_those_of_the_sdk(sdk, picture, options, kind, param):
    with pytest.raises(kind) as caught:
        sdk.images.edit(image=picture, prompt="wrong", **options)
    if param is not None:
        assert caught.value.param == param
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_an_edit_that_fails_says_why(sdk, picture, n, stream):
    with pytest.raises(openai.APIError, match="The prompt said so.") as caught:
        answer = sdk.images.edit(image=picture, prompt="fail", size="64x48", n=n, stream=stream)
        list(answer)
    assert caught.value.code == "job_failed"


def test_text_to_image_is_refused_with_the_reason(sdk):
    with pytest.raises(openai.BadRequestError, match="edits pictures"):
        sdk.images.generate(prompt="a cat")


@pytest.mark.parametrize("key", ["nothing", "qied-wrong"])
def test_without_a_token_there_is_nothing(gateway, key):
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
