from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from qied.edit import EditSpec
from qied.engine.cache import SceneCache
from qied.engine.engine import Engine, EngineOptions
from qied.engine.stepping import Edit
from qied.engine.work import Advance
from qied.planning.model_profile import ModelProfile, shipped_profiles
from qied.resources import builtin_model_folder

RED, GREEN, ORANGE_GROUND = (220, 40, 40), (40, 165, 60), (250, 205, 150)


@pytest.fixture(scope="session")
def profile() -> ModelProfile:
    return shipped_profiles()["builtin"]


@pytest.fixture(scope="session")
def load_engine(profile: ModelProfile) -> Callable[..., Engine]:
    def load(**options: str) -> Engine:
        return Engine.load(builtin_model_folder(), profile, EngineOptions(**options), lambda *_: None)

    return load


@pytest.fixture(scope="session")
def engine(load_engine: Callable[..., Engine]) -> Engine:
    return load_engine(dtype="fp32")


@pytest.fixture
def cache() -> SceneCache:
    return SceneCache(1 << 24)


@pytest.fixture
def scene() -> Callable[..., Image.Image]:
    """A red circle in the middle and a green square at the top left, drawn four times too large."""

    def draw(width: int = 256, height: int = 256, ground: tuple[int, int, int] = ORANGE_GROUND) -> Image.Image:
        large = Image.new("RGB", (4 * width, 4 * height), ground)
        pen = ImageDraw.Draw(large)
        x, y = 2 * width, 2 * height
        pen.ellipse((x - 144, y - 144, x + 144, y + 144), fill=RED)
        pen.rectangle((72, 72, 280, 280), fill=GREEN)
        return large.resize((width, height), Image.Resampling.LANCZOS)

    return draw


@pytest.fixture
def spec() -> Callable[..., EditSpec]:
    """A short edit of one picture named "a"; any field can be replaced."""
    plain = EditSpec(("a",), "make the red circle blue", None, 7, 3, 1.0, 256, 256, preview_every=0)
    return lambda **changes: replace(plain, **changes)


@pytest.fixture
def finish() -> Callable[[Edit], list[Advance]]:
    """Advance an edit to its end and return every unit; the last one holds the result."""

    def run(edit: Edit) -> list[Advance]:
        units = [edit.advance()]
        while units[-1].image is None:
            units.append(edit.advance())
        return units

    return run
