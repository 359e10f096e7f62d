"""How long edits take here, learnt from the steps that were measured. Pure."""

from __future__ import annotations

from qied.edit import EditSpec
from qied.planning.edits.workload import Workload, workload_of, works_of
from qied.planning.requests.serving import Serving

_FIRST_GUESS_MS_PER_GFLOP = {"cpu": 20.0, "cuda": 0.005}
"""A desktop CPU in FP32 and a data-centre card in BF16, until a step was measured."""
_FIRST_UPSCALING_MS_PER_GFLOP = {"cpu": 20.0, "cuda": 0.03}
"""A desktop CPU, and a data-centre card in FP32, until an upscaling was measured."""
_WEIGHT_OF_NEWS = 0.2
_OVERHEAD_STEPS = 4
"""What encoding and decoding cost, counted in steps."""


class Pace:
    """Milliseconds per 10^9 operations, as an exponentially weighted mean over measured denoising steps."""

    def __init__(self, serving: Serving) -> None:
        self._profile = serving.profile
        self._max_reference_pixels = serving.max_reference_pixels
        self._loras = serving.loras
        self._preview = serving.plans[0].execution.preview_decoder
        self._ms_per_gflop = _FIRST_GUESS_MS_PER_GFLOP[serving.device]
        self._measured = False
        self._upscale_gflop = serving.upscale_gflop
        self._upscaling_ms_per_gflop = _FIRST_UPSCALING_MS_PER_GFLOP[serving.device]
        self._upscaling_measured = False

    def step_gflop(self, spec: EditSpec) -> float:
        """Operations of one step of the first pass: see ``_gflop``."""
        return self._gflop(spec, workload_of(spec, self._profile, self._max_reference_pixels))

    def _gflop(self, spec: EditSpec, work: Workload) -> float:
        """Operations of one step: linears, attention and LoRAs of all blocks, times the forwards of a step; previews.

        A LoRA has branches next to the linears of both streams, of which a token meets those of its own: half of the
        parameters, two operations each.
        """
        facts = self._profile.architecture
        sequence = work.tokens
        linear = 2 * sequence * (4 * facts.inner_dim + 2 * facts.mlp_dim) * facts.inner_dim
        attention = 4 * sequence * sequence * facts.inner_dim
        chosen = (self._loras[lora.name] for lora in spec.loras if lora.strength and lora.name in self._loras)
        branches = sequence * sum(lora.parameters for lora in chosen)
        forwards = ((linear + attention) * facts.layers + branches) * (2 if spec.guided else 1)
        return (forwards + self._preview_operations(spec)) / 1e9

    def _preview_operations(self, spec: EditSpec) -> float:
        """Operations of a step's share of a preview; none for the linear map."""
        if self._preview is None or not spec.preview_every:
            return 0.0
        return self._preview.operations * spec.width * spec.height / spec.preview_every

    def learn(self, spec: EditSpec, step_ms: float) -> None:
        """Take in one measured denoising step."""
        measured = step_ms / self.step_gflop(spec)
        share = _WEIGHT_OF_NEWS if self._measured else 1.0
        self._ms_per_gflop += share * (measured - self._ms_per_gflop)
        self._measured = True

    def learn_upscaling(self, spec: EditSpec, milliseconds: float) -> None:
        """Take in how long one result took to be enlarged; upscaling has a pace of its own."""
        if (gflop := self._upscale_gflop(spec)) > 0:
            share = _WEIGHT_OF_NEWS if self._upscaling_measured else 1.0
            self._upscaling_ms_per_gflop += share * (milliseconds / gflop - self._upscaling_ms_per_gflop)
            self._upscaling_measured = True

    def edit_ms(self, spec: EditSpec) -> int:
        """Expected milliseconds of a whole edit that runs alone, with all of its passes, and enlarged at its end."""
        drawing = 0.0 if spec.only_upscales else self.steps_gflop(spec, _OVERHEAD_STEPS) * self._ms_per_gflop
        return max(1, round(drawing + self._upscale_gflop(spec) * self._upscaling_ms_per_gflop))

    def steps_gflop(self, spec: EditSpec, more: int = 0) -> float:
        """Operations of all steps of an edit with all of its passes, and of ``more`` in each."""
        passes = works_of(spec, self._profile, self._max_reference_pixels)
        return sum(self._gflop(spec, work) * (steps + more) for work, steps in passes)
