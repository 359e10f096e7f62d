"""Pictures come to the page in every way that people know, and old results bring their settings."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from qied_client.picture_metadata import EXIF_PREFIX, read_metadata

from tests.web.page.visit import PICTURE, TIMES

DROP = """([kind, data, name, type]) => {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    const how = { bubbles: true, cancelable: true };
    const made = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: transfer, ...how })
        : new DragEvent(kind, { dataTransfer: transfer, ...how });
    document.querySelector("#prompt").dispatchEvent(made);
    return document.body.classList.contains("over");
}"""


def bring(user, kind: str, path: Path, media_type: str = "image/png") -> bool:
    data = base64.b64encode(path.read_bytes()).decode()
    return user.page.evaluate(DROP, [kind, data, path.name, media_type])


@pytest.fixture
def coloured(tmp_path):
    """A small picture of one colour."""

    def make(colour: str, name: str = "", **options) -> Path:
        path = tmp_path / (name or f"{colour}.png")
        Image.new("RGB", (64, 48), colour).save(path, **options)
        return path

    return make


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted_and_numbered(visit, coloured, kind):
    user = visit()
    if kind == "drop":
        assert bring(user, "dragover", coloured("red")), "the page says that it takes it"
    assert not bring(user, kind, coloured("red"))
    user.wait("#canvas")
    bring(user, kind, coloured("green"))
    user.wait(".ref:nth-child(2)")
    assert user.page.locator(".ref em").all_inner_texts() == ["1 canvas", "2"]
    assert user.page.inner_text("#tag-after") == f"64 {TIMES} 48"


def test_a_name_and_a_type_that_are_wrong_do_not_matter(visit, coloured):
    user = visit()
    path = coloured("red", "picture.bin", format="JPEG")
    bring(user, "drop", path, "application/octet-stream")
    user.wait(".ref")
    assert not user.page.is_visible("#toast")


def test_the_first_one_is_the_canvas_and_the_next_takes_its_place(visit, coloured):
    user = visit()
    user.choose(coloured("red"), PICTURE)
    user.page.click(".ref:nth-child(1) .away")
    user.reads("#tag-after", f"256 {TIMES} 256")
    user.page.click(".ref:nth-child(1) .away")
    user.wait("#empty")


def test_a_click_on_a_picture_names_it_in_the_prompt(visit, coloured):
    user = visit()
    user.choose(PICTURE, coloured("green"))
    user.page.fill("#prompt", "as in")
    user.page.click(".ref:nth-child(2) .see")
    assert user.page.input_value("#prompt") == "as in picture 2"


def test_one_more_than_the_model_sees_is_refused_with_what_to_do(visit, coloured):
    user = visit()
    most = user.page.evaluate("import('/page/state.js').then(({ state }) => state.me.max_images)")
    user.choose(*[coloured("red", f"{number}.png") for number in range(most + 1)])
    user.reads("#toast-text", f"at most {most} pictures. Remove one first.")
    assert user.page.locator(".ref").count() == most


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("notes.txt", b"no picture", "is not a PNG, JPEG, WebP,"),
        ("film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "is not a PNG, JPEG, WebP,"),
        ("broken.png", PICTURE.read_bytes()[:20], "cannot be read as a picture."),
        ("empty.png", b"", "is not a PNG, JPEG, WebP,"),
    ],
    ids=["text", "film", "broken", "empty"],
)
def test_what_is_no_picture_is_told_with_what_to_do(visit, tmp_path, name, data, says):
    user = visit()
    (tmp_path / name).write_bytes(data)
    user.page.set_input_files("#file", str(tmp_path / name))
    user.reads("#toast-text", f"{name} {says}")
    user.page.click("#toast-close")
    assert not user.page.is_visible("#toast")


def test_a_file_that_is_too_large_is_told_before_it_is_sent(visit, tmp_path):
    user = visit()
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.write(PICTURE.read_bytes())
        file.truncate(64 * 2**20 + 1)
    user.page.set_input_files("#file", str(large))
    user.reads("#toast-text", "large.png is larger than 64 MB.")


def test_an_edit_without_picture_or_prompt_says_what_is_missing(visit):
    user = visit()
    user.page.click("#edit")
    user.reads("#toast-text", "Choose a picture first.")
    user.choose(PICTURE)
    user.page.click("#edit")
    user.reads("#toast-text", "Say what should change.")
    assert user.page.evaluate("document.activeElement.id") == "prompt"


def test_a_result_can_be_enlarged_by_a_model_of_the_server_and_its_price_is_of_that(visit):
    user = visit()
    user.choose(PICTURE)
    user.page.click("#more summary")
    user.reads("#more-line", "256")
    user.page.select_option("#upscale", "builtin-2x")
    user.reads("#more-line", "512")
    user.page.reload()
    user.reads("#more-line", "512")
    assert user.page.input_value("#upscale") == "builtin-2x"


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_an_old_result_brings_its_settings_back(visit, tmp_path, kind):
    user = visit()
    user.choose(PICTURE)
    user.page.click('[data-preset="draft"]')
    user.page.click('[data-lora="builtin-outline"]')
    user.page.fill(".pill input", "0.5")
    user.set("#negative", "文字")
    user.set("#cfg", 2)
    user.set("#seed", 2**53 + 1)  # more digits than JavaScript's numbers keep
    user.edit("把心形改成“蓝色”", steps=3)
    user.done(1)
    result = tmp_path / f"result.{kind}"
    result.write_bytes(user.saved(kind))
    again = visit("eve")
    again.choose(result)
    again.reads("#toast-text", "settings of this picture are back")
    fields = {name: again.page.input_value(f"#{name}") for name in ("prompt", "negative", "seed", "steps", "aspect")}
    assert fields == {
        "prompt": "把心形改成“蓝色”", "negative": "文字", "seed": "9007199254740993", "steps": "3", "aspect": "256x256",
    }  # fmt: skip
    assert again.page.input_value(".pill input") == "0.5"


def test_an_edit_is_done_as_comfyui_does_it_where_that_is_chosen(visit):
    user = visit()
    user.choose(PICTURE)
    user.page.click("#more summary")
    user.page.select_option("#compat", "comfyui")
    user.edit("make it blue", steps=2)
    user.done(1)
    made = read_metadata(user.saved("png"))
    assert made is not None and made.compat == "comfyui"
    user.page.select_option("#compat", "")
    user.edit("make it blue", steps=2)
    user.done(2)
    made = read_metadata(user.saved("png"))
    assert made is not None and not made.compat


def test_a_picture_made_as_in_comfyui_brings_that_back_with_its_settings(visit, tmp_path):
    exif = Image.Exif()
    exif[270] = EXIF_PREFIX + '{"prompt": "x", "seed": 5, "compat": "comfyui,shift=3", "size": "kontext"}'
    Image.new("RGB", (64, 48)).save(tmp_path / "there.webp", exif=exif.tobytes())
    user = visit()
    user.choose(tmp_path / "there.webp")
    user.reads("#toast-text", "settings of this picture are back")
    assert (user.page.input_value("#compat"), user.page.input_value("#aspect")) == ("comfyui,shift=3", "kontext")
    user.page.reload()
    user.until("() => document.querySelector('#compat').value === 'comfyui,shift=3'")
    chosen = "async () => (await import('/page/options.js')).options()"
    assert user.page.evaluate(chosen)["compat"] == "comfyui,shift=3"
    assert user.page.evaluate(chosen)["size"] == "kontext"
    user.page.click("#more summary")
    user.page.select_option("#compat", "")
    assert not {"compat", "size"} & user.page.evaluate(chosen).keys()


def test_settings_stand_behind_a_megabyte_of_pixels_in_a_webp(visit, tmp_path):
    exif = Image.Exif()
    exif[270] = EXIF_PREFIX + '{"prompt": "noise", "seed": 5, "loras": [["not-here", 1.0]]}'
    large = tmp_path / "large.webp"
    Image.effect_noise((1024, 1200), 90).convert("RGB").save(large, lossless=True, exif=exif.tobytes())
    assert large.stat().st_size > 2**20
    user = visit()
    user.choose(large)
    user.reads("#toast-text", "This server does not have not-here.")
    assert (user.page.input_value("#prompt"), user.page.input_value("#seed")) == ("noise", "5")


def test_settings_of_a_further_picture_are_offered_and_not_imposed(visit, tmp_path):
    user = visit()
    user.choose(PICTURE)
    user.edit("one", steps=1)
    user.done(1)
    result = tmp_path / "result.png"
    result.write_bytes(user.saved("png"))
    user.page.fill("#prompt", "my own words")
    bring(user, "drop", result)
    user.wait("#toast-action")
    assert user.page.input_value("#prompt") == "my own words"
    user.page.click("#toast-action")
    assert user.page.input_value("#prompt") == "one"


def test_a_copy_without_settings_changes_none(visit, tmp_path):
    user = visit()
    user.page.fill("#prompt", "my own words")
    for name, options in (("plain.png", {}), ("plain.webp", {"lossless": True}), ("plain.jpg", {})):
        Image.open(PICTURE).convert("RGB").save(tmp_path / name, **options)
        user.choose(tmp_path / name)
        assert user.page.input_value("#prompt") == "my own words"
        user.page.click(".ref .away")


def test_a_turned_photo_is_shown_and_edited_upright(visit, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64), "red").save(tmp_path / "turned.jpg", exif=exif.tobytes())
    user = visit()
    user.choose(tmp_path / "turned.jpg")
    assert user.page.inner_text("#tag-after") == f"64 {TIMES} 96"
    user.edit("darker", steps=1)
    user.done(1)
    width, height = Image.open(io.BytesIO(user.saved("png"))).size
    assert width < height


def test_a_picture_that_is_cut_short_is_told_by_the_server(visit, tmp_path):
    (tmp_path / "short.png").write_bytes(PICTURE.read_bytes()[:4000])
    user = visit(expected=("400",))
    user.choose(tmp_path / "short.png")
    user.edit("darker", steps=1)
    user.wait(".toast.bad")
    assert user.page.inner_text("#toast-text") not in ("", "failed")
