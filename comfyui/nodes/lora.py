"""Qied LoRA: one LoRA in a chain."""

from __future__ import annotations

from comfy_api.latest import io

from ..daemon.choices import loras as known_loras
from .inputs import CATEGORY, Loras, LorasSocket


class QiedLora(io.ComfyNode):
    """Adds a LoRA of the daemon to those before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="QiedLora",
            display_name="Qied LoRA",
            category=CATEGORY,
            description="Adds a LoRA from the daemon's folders; several of these nodes make a chain.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=known_loras(),
                    default="",
                    tooltip="The daemon's name of the LoRA. Empty: none. Press R to see LoRAs that were added.",
                ),
                io.Float.Input(
                    "strength",
                    optional=True,
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How strongly it acts; 0 is not at all.",
                ),
                LorasSocket.Input("loras", optional=True, tooltip="The LoRAs before this one."),
            ],
            outputs=[LorasSocket.Output(display_name="loras", tooltip="For the input 'loras' of other nodes.")],
        )

    @classmethod
    def validate_inputs(cls, name: str = "") -> bool | str:
        """Let names through that are not in the list: the daemon knows them, and this ComfyUI may not have asked it."""
        return True

    @classmethod
    def execute(cls, name: str, strength: float = 1.0, loras: Loras | None = None) -> io.NodeOutput:
        before = loras or ()
        return io.NodeOutput((*before, (name, strength)) if name else before)
