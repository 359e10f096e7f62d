from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, replace

import pytest
import torch
from PIL import Image, ImageDraw

from benchmarks.part_runs.dense_source import DenseSource
from qied.checkpoints.expected import expected_shapes
from qied.checkpoints.pipeline_folder import STEMS, read_json, weight_files
from qied.edit import EditSpec
from qied.engine.disk.cache import NO_CACHES, DiskCaches
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Forward, Transformer, load_transformer
from qied.engine.weights.sources import FileSource, TensorSource, WeightReader
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.resources import builtin_model_folder


def made(making: Generator[tuple[int, int], None, ModulationTable]) -> ModulationTable:
    """Let a table be made to its end."""
    while True:
        try:
            next(making)
        except StopIteration as end:
            table: ModulationTable = end.value
            return table


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


@pytest.fixture(scope="session")
def execution(profile: ModelProfile) -> Callable[..., Execution]:
    """Everything resident on the CPU in FP32; any field can be replaced."""
    return lambda **changes: replace(EngineOptions(dtype="fp32").resolved(profile), **changes)


@pytest.fixture(scope="session")
def transformer_source() -> TensorSource:
    return FileSource("transformer", weight_files(builtin_model_folder() / "transformer", STEMS["transformer"]))


class RandomWeights(DenseSource):
    """A transformer of the built-in model's shapes with random weights that keep the size of what goes through them."""

    component, nbytes = "transformer", 1

    def __init__(self, profile: ModelProfile) -> None:
        generator = torch.Generator().manual_seed(0)
        self._tensors: dict[str, torch.Tensor] = {}
        for name, shape in expected_shapes(profile, "transformer").items():
            if len(shape) == 2:
                weight = torch.randn(shape, generator=generator) / shape[1] ** 0.5
                self._tensors[name] = weight * (0.3 if "_mod." in name or "norm_out" in name else 1.0)
            else:
                self._tensors[name] = torch.full(shape, 1.0 if "norm" in name and "linear" not in name else 0.0)

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def origin(self, name: str) -> str:
        return "memory"

    def read(self, name: str) -> torch.Tensor:
        return self._tensors[name]


@pytest.fixture(scope="session")
def random_weights(profile: ModelProfile) -> TensorSource:
    """Weights for what is said of the arithmetic, whatever the shipped ones are."""
    return RandomWeights(profile)


@pytest.fixture(scope="session")
def make_transformer(
    execution: Callable[..., Execution], transformer_source: TensorSource
) -> Callable[..., Transformer]:
    """Load the built-in model's transformer; any field of the execution can be replaced."""
    config = read_json(builtin_model_folder() / "transformer" / "config.json")

    def make(
        source: TensorSource = transformer_source, caches: DiskCaches = NO_CACHES, **changes: object
    ) -> Transformer:
        reader = WeightReader(source.nbytes, lambda *_: None)
        return load_transformer(config, source, execution(**changes), torch.device("cpu"), reader, caches)

    return make


@dataclass(frozen=True)
class Scene:
    """Random inputs of a forward: one reference, a text, and where in its schedule an edit is."""

    shapes: tuple[tuple[int, int, int], ...]
    latents: torch.Tensor
    references: torch.Tensor
    embeddings: torch.Tensor
    sigmas: torch.Tensor
    step: int

    def forward(self, transformer: Transformer, dtype: torch.dtype) -> Forward:
        """The inputs as a transformer gets them."""
        with torch.inference_mode():
            table = made(transformer.modulation_table(self.sigmas))
            return Forward(
                self.latents,
                self.references.to(dtype),
                self.embeddings.to(dtype),
                transformer.rotation(self.shapes, self.embeddings.shape[1] + 5),
                transformer.step_rows(table).step(self.step),
            )


@pytest.fixture(scope="session")
def inputs() -> Callable[..., Scene]:
    def draw(seed: int = 0, target: tuple[int, int] = (16, 16), reference: tuple[int, int] = (16, 12)) -> Scene:
        generator = torch.Generator().manual_seed(seed)

        def tokens(count: int, width: int) -> torch.Tensor:
            return torch.randn(1, count, width, generator=generator)

        return Scene(
            ((1, *target), (1, *reference)),
            tokens(target[0] * target[1], 64),
            tokens(reference[0] * reference[1], 64),
            tokens(37 + seed, 128),
            torch.tensor([0.9, 0.5, 0.2 + seed / 100]),
            1 + seed % 2,
        )

    return draw


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> str:
    """A session of the test alone."""
    return request.node.nodeid


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
