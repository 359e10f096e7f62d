"""Settings of all tests, and the LoRA files that many of them need."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

from tests.cards import has_card_device

if not has_card_device():
    # Without a card, Triton's kernels run in its interpreter; it is told before anything imports it.
    os.environ["TRITON_INTERPRET"] = "1"

# Tests that are started in the background, or by nohup, inherit ignored signals, and so would every program under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Machines that run tests are shared: how long one example takes says nothing about the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

LONG_FILES = (
    "tests/daemon/test_kills.py",
    "tests/daemon/test_pauses.py",
    "tests/tiny_model/test_training.py",
    "tests/engine/ops/test_compiled_kernels.py",
    "tests/daemon/test_gguf_files.py",
    "tests/engine/block/test_packed_cache.py",
    "tests/engine/weights/test_layouts.py",
    "tests/engine/test_engine.py",
    "tests/engine/test_parity.py",
    "tests/benchmarks/test_quality_run.py",
    "tests/daemon/test_single_files.py",
    "tests/daemon/test_builtin_model.py",
    "tests/comfyui/test_nodes.py",
    "tests/comfyui/test_workflows.py",
    "tests/daemon/test_stop.py",
    "tests/cli/test_doctor.py",
    "tests/daemon/test_independence.py",
    "tests/daemon/test_user_limits.py",
    "tests/docs/test_command_lines.py",
    "tests/daemon/test_hostile_pictures.py",
    "tests/daemon/test_machine_down.py",
    "tests/benchmarks/test_wire_smoke.py",
    "tests/engine/weights/test_loading_memory.py",
    "tests/planning/test_planner.py",
)
"""The longest first. Last, they would leave the other process idle for a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long files first, and the others in their order."""
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(places)))


INNER, MLP = 256, 1024
SHAPES = {
    **dict.fromkeys(("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"), (INNER, INNER)),
    **dict.fromkeys(("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"), (INNER, INNER)),
    **dict.fromkeys(("img_mlp.net.0.proj", "txt_mlp.net.0.proj"), (MLP, INNER)),
    **dict.fromkeys(("img_mlp.net.2", "txt_mlp.net.2"), (INNER, MLP)),
    **dict.fromkeys(("img_mod.1", "txt_mod.1"), (6 * INNER, INNER)),
}
"""(Outputs, inputs) of the linears of a block of the built-in model."""
LINEARS = tuple(name for name in SHAPES if "_mod" not in name)
MODULATION = tuple(name for name in SHAPES if "_mod" in name)
STYLES = {
    "peft": ("transformer_blocks.{}.{}", ".lora_A.weight", ".lora_B.weight"),
    "diffusers": ("transformer.transformer_blocks.{}.{}", ".lora_A.weight", ".lora_B.weight"),
    "peft-model": ("base_model.model.transformer_blocks.{}.{}", ".lora_A.default.weight", ".lora_B.default.weight"),
    "comfyui": ("diffusion_model.transformer_blocks.{}.{}", ".lora_A.weight", ".lora_B.weight"),
    "lightning": ("transformer_blocks.{}.{}", ".lora_down.weight", ".lora_up.weight"),
    "lightning-comfyui": ("diffusion_model.transformer_blocks.{}.{}", ".lora_down.weight", ".lora_up.weight"),
    "kohya": ("lora_unet_transformer_blocks_{}_{}", ".lora_down.weight", ".lora_up.weight"),
}


def lora_writer(
    path: Path,
    *,
    style: str = "peft",
    modules: Sequence[str] = LINEARS,
    blocks: Sequence[int] = range(6),
    rank: int = 4,
    alpha: float | None = None,
    stored_alpha: float | None = None,
    seed: int = 0,
    size: float = 0.2,
    metadata: dict[str, str] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """See ``write_lora``. ``alpha`` is a tensor of each module, ``stored_alpha`` diffusers' note in the metadata."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    name, down_end, up_end = STYLES[style]
    tensors: dict[str, Any] = {}
    added: dict[str, Any] = {}
    for block in blocks:
        for module in modules:
            outputs, inputs = SHAPES[module]
            stem = name.format(block, module.replace(".", "_") if style == "kohya" else module)
            down = torch.randn(rank, inputs, generator=generator) / inputs**0.5
            up = torch.randn(outputs, rank, generator=generator) * size
            tensors[stem + down_end], tensors[stem + up_end] = down, up
            if alpha is not None:
                tensors[f"{stem}.alpha"] = torch.tensor(alpha)
            scale = next((value / rank for value in (alpha, stored_alpha) if value is not None), 1.0)
            added[f"transformer_blocks.{block}.{module}"] = up.double() @ down.double() * scale
    texts = dict(metadata or {})
    if stored_alpha is not None:
        texts["lora_adapter_metadata"] = json.dumps({"transformer.r": rank, "transformer.lora_alpha": stored_alpha})
    change(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, texts)
    return added


@pytest.fixture(scope="session")
def write_lora() -> Callable[..., dict[str, Any]]:
    """Write a random LoRA; returns what it adds to each linear in FP64, by the linear's name in the model."""
    return lora_writer


@pytest.fixture(scope="session")
def many_scans() -> Callable[..., bytes]:
    """Make a gray progressive JPEG of so many scans, of which all but the first few change nothing."""

    def make(side: int, scans: int) -> bytes:
        target = io.BytesIO()
        Image.new("L", (side, side), 200).save(target, "JPEG", progressive=True)
        whole = target.getvalue().removesuffix(b"\xff\xd9")
        last = whole[whole.rindex(b"\xff\xda") :]
        return whole + last * (scans - whole.count(b"\xff\xda")) + b"\xff\xd9"

    return make


@pytest.fixture(scope="session")
def decoders_of() -> Callable[[int], list[int]]:
    """Find the processes that decode pictures for a process, by its id (Linux)."""

    def find(pid: int) -> list[int]:
        found = []
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                for child in map(int, children.read_text().split()):
                    if b"decoder_child" in Path(f"/proc/{child}/cmdline").read_bytes():
                        found.append(child)
        return sorted(found)

    return find
