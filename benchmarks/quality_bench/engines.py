"""The project's engine in each precision that is compared, all with one VAE in FP32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

import torch

from qied.engine.block.packed import PACKED
from qied.engine.disk.cache import DiskCache, DiskCaches
from qied.engine.engine import Engine, EngineOptions
from qied.engine.models import ComponentSources, open_pipeline
from qied.engine.ops.attention import Attention
from qied.engine.ops.torch_operations import TorchOperations
from qied.engine.vae.vae import Vae
from qied.loras.catalogue import Catalogue, find_loras
from qied.planning.plan import FP8_ATTENTION, Execution, TextPrecision
from qied.planning.profiles.model_profile import ModelProfile
from quality_bench.gguf_source import GgufSource
from quality_bench.plain_cast import PlainCastLinear, PlainCastSource
from quality_bench.rows import GGUF_PRECISIONS, Precision, Row

KEPT_BYTES = 1 << 30
LORA_BYTES = 1 << 28
"""Room on the device: more than all LoRAs of the built-in model take."""


@dataclass(frozen=True)
class Model:
    """Where the model and its LoRAs lie, and on which device ("cpu", "cuda") it runs."""

    folder: Path
    loras: Path
    profile: ModelProfile
    device: str

    def catalogue(self) -> Catalogue:
        """The LoRAs that the folder has."""
        return find_loras([self.loras], self.profile.architecture)


class Engines:
    """Builds engines of one model as they are asked for, and keeps the latest."""

    def __init__(self, model: Model) -> None:
        self.model = model
        # TF32 would take from the VAE's FP32 what it is there for.
        torch.backends.cudnn.allow_tf32 = False
        self._loras = model.catalogue().files
        self._latest: tuple[tuple[Precision, bool, TextPrecision], Engine] | None = None
        self._kept = Path(mkdtemp(prefix="qied-quality-"))
        finalize(self, rmtree, self._kept, ignore_errors=True)

    def engine(self, row: Row) -> Engine:
        """The engine that a row runs on; rows of one precision share it."""
        key = (row.precision, row.bf16_vae, row.text)
        if self._latest is None or self._latest[0] != key:
            engine = self._built(row.precision, row.text)
            self._latest = (key, engine if row.bf16_vae else self._with_vae(engine))
        return self._latest[1]

    @cached_property
    def vae(self) -> Vae:
        """The VAE in FP32: in BF16 its own rounding would hide what the precision of the transformer changes."""
        return self._built("fp32").models.vae

    @cached_property
    def bf16_vae(self) -> Vae:
        """The VAE as an engine of BF16 has it."""
        return self._built("bf16").models.vae

    def _with_vae(self, engine: Engine) -> Engine:
        """The same engine with the VAE in FP32."""
        context = replace(engine.context, models=replace(engine.models, vae=self.vae))
        return Engine(context, engine.execution, engine.options)

    def _built(self, precision: Precision, text: TextPrecision = "stored") -> Engine:
        """An engine as a worker builds it; one of plain casts has its weights and its linears exchanged."""
        sources = self._sources
        plain_cast = precision == "fp8 plain cast"
        if plain_cast:
            sources = replace(sources, transformer=PlainCastSource(sources.transformer))
        if precision in GGUF_PRECISIONS:
            sources = replace(sources, transformer=GgufSource(sources.transformer, precision.removeprefix("gguf ")))
        execution = self._execution(precision)
        if text != "stored":
            execution = replace(execution, text_encoder="streamed", text_encoder_precision=text)
        caches = DiskCaches(packed=DiskCache(PACKED, self._kept, KEPT_BYTES))
        options = EngineOptions(execution=execution, loras=self._loras, lora_bytes=LORA_BYTES, caches=caches)
        engine = Engine.build(sources, self.model.profile, options, lambda *_: None)
        if plain_cast:
            models = engine.models
            models.transformer.operations = TorchOperations(PlainCastLinear(models.device), Attention())
        return engine

    def _execution(self, precision: Precision) -> Execution:
        plain = EngineOptions(self.model.device, "fp32" if precision == "fp32" else "bf16").resolved(self.model.profile)
        if precision == "fp8 row-wise":
            return replace(plain, precision="fp8", scaling="rowwise")
        if precision == "fp8 attention":
            return replace(plain, precision="fp8", scaling="rowwise", attention=(FP8_ATTENTION, *plain.attention))
        if precision == "fp8 per tensor":
            return replace(plain, precision="fp8", scaling="tensorwise")
        if precision == "int8":
            return replace(plain, precision="int8")
        if precision == "fp8 storage":
            return replace(plain, precision="fp8-storage", scaling="rowwise")
        return plain

    @cached_property
    def _sources(self) -> ComponentSources:
        return open_pipeline(self.model.folder, self.model.profile)
