"""One façade of ComfyUI before one real daemon, and the graphs that its clients send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.daemon.conftest import DaemonProcess, make_picture, picture, shared_daemon
from tests.web.conftest import GatewayProcess

__all__ = ["make_picture", "picture", "shared_daemon"]
Graph = dict[str, Any]


@pytest.fixture(scope="module")
def facade(shared_daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Who sends no token is the machine's owner, as a script expects that knows of none."""
    tokens = tmp_path_factory.mktemp("facade") / "tokens.json"
    running = GatewayProcess(shared_daemon.key, tokens, "--comfyui", "--without-token", "local")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def tokens(shared_daemon: DaemonProcess, facade: GatewayProcess) -> dict[str, str]:
    """Tokens of two users."""
    found = {}
    for user in ("ada", "bob"):
        shared_daemon.enrol(user)
        found[user] = facade.tokens.add(user)[0]
    return found


@pytest.fixture
def as_user(facade: GatewayProcess, tokens: dict[str, str]) -> Iterator[Callable[[str], httpx.Client]]:
    made: list[httpx.Client] = []

    def client(user: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {tokens[user]}"} if user else {}
        made.append(httpx.Client(base_url=facade.url, headers=headers, timeout=60, trust_env=False))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def graph() -> Callable[..., Graph]:
    """The official graph of an edit, in the format of the API, at a size that the small model has."""

    def make(
        picture: str, prompt: str = "make it blue", *, steps: int = 3, save: str = "SaveImage", **more: Any
    ) -> Graph:
        encode = {"clip": ["2", 0], "vae": ["3", 0], "image1": ["4", 0]}
        drawn: Graph = {
            "1": {
                "class_type": "UNETLoader",
                "inputs": {"unet_name": "builtin.safetensors", "weight_dtype": "default"},
            },
            "2": {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen.safetensors", "type": "qwen_image"}},
            "3": {"class_type": "VAELoader", "inputs": {"vae_name": "vae.safetensors"}},
            "4": {"class_type": "LoadImage", "inputs": {"image": picture}},
            "5": {"class_type": "TextEncodeQwenImageEditPlus", "inputs": {**encode, "prompt": prompt}},
            "6": {"class_type": "TextEncodeQwenImageEditPlus", "inputs": {**encode, "prompt": ""}},
            "7": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 96, "height": 64, "batch_size": 1}},
            "8": {"class_type": "ModelSamplingAuraFlow", "inputs": {"model": ["1", 0], "shift": 3.1}},
            "9": {"class_type": "CFGNorm", "inputs": {"model": ["8", 0], "strength": 1.0}},
            "12": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["9", 0],
                    "positive": ["5", 0],
                    "negative": ["6", 0],
                    "latent_image": ["7", 0],
                    "seed": 7,
                    "steps": steps,
                    "cfg": 1.0,
                    "sampler_name": "euler",
                    "scheduler": "simple",
                    "denoise": 1.0,
                    **more,
                },
            },
            "13": {"class_type": "VAEDecode", "inputs": {"samples": ["12", 0], "vae": ["3", 0]}},
            "14": {"class_type": save, "inputs": {"images": ["13", 0], "filename_prefix": "qied"}},
        }
        if save == "SaveImageWebsocket":
            del drawn["14"]["inputs"]["filename_prefix"]
        return drawn

    return make


@pytest.fixture
def upload() -> Callable[..., str]:
    def send(client: httpx.Client, data: bytes, name: str = "cat.png", **fields: str) -> str:
        answer = client.post("/upload/image", files={"image": (name, data, "image/png")}, data=fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])

    return send


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file without which an edit that waits for it goes no further."""
    return tmp_path / "gate"
