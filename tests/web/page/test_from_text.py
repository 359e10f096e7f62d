"""The page of a model that makes pictures from text alone: a prompt is enough, and what was made is listed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.small_models import small_model, text_to_image_profile
from tests.web.conftest import GatewayProcess
from tests.web.page.visit import PICTURE


@pytest.fixture
def door(daemon_process, tmp_path: Path):
    profile = text_to_image_profile(tmp_path / "profile.toml")
    daemon = daemon_process(tmp_path / "home", QIED_MODEL_PROFILE=str(profile))
    daemon.model = str(small_model(tmp_path / "Qwen-Image-2512", "2512"))
    daemon.start()
    gateway = GatewayProcess(daemon.key, tmp_path / "tokens.json")
    yield gateway
    gateway.kill()
    daemon.kill()


@pytest.fixture
def user(door: GatewayProcess, open_at):
    return open_at(door.url, door.tokens.add("local")[0])


def test_a_prompt_alone_makes_pictures_that_are_still_there_later(user):
    assert not user.page.is_visible("#refs") and not user.page.is_visible("#choose")
    user.page.click("#edit")
    user.reads("#toast", "Say what it should show.")
    user.page.set_input_files("#file", str(PICTURE))
    user.reads("#toast", "takes none")
    user.edit("a red circle", steps=2)
    user.wait("#canvas")
    user.wait('.turn[aria-current="true"]:not(.running)')
    assert Image.open(BytesIO(user.saved("png"))).size == (192, 128)
    for key in ("b", "r"):  # what a picture is needed for is not there by its key either
        user.page.keyboard.press(key)
        assert not user.page.is_visible("#brush")
    user.page.select_option("#count", "2")
    user.edit("two of them", steps=2)
    user.until("() => document.querySelectorAll('.turn:not(.running)').length === 3")
    user.page.reload()
    user.until("() => document.querySelectorAll('.turn:not(.running)').length === 3")
    user.wait("#canvas")
