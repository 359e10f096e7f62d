"""How qied, its client and their optional packages are installed: the only place that knows.

Neither distribution is on a package index. The daemon runs from a checkout; ``make wheels`` builds a wheel of the
client to carry to other machines. An extra's packages do come from an index, so remedies name those packages.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

from qied_client.version import __version__

EXTRAS: Mapping[str, Sequence[str]] = {
    "qied-client[cli]": ("typer>=0.15.4", "rich>=13.9"),
    "qied-client[pictures]": ("pillow>=11.3", "numpy>=1.26"),
    "qied-client[web]": (
        "starlette>=0.47",
        "uvicorn>=0.35",
        "websockets>=14",
        "h11>=0.14",
        "python-multipart>=0.0.20",
        "sse-starlette>=3.3",
        "anyio>=4.7",
        "filelock>=3.12",
    ),
    "qied[c2pa]": ("c2pa-python>=0.38",),
    "qied[upscalers]": ("spandrel>=0.4.2", "einops>=0.8"),
    "qied[formats]": ("pillow-heif>=1.0", "pillow-jxl-plugin>=1.3.4"),
    "qied[fp8-attention]": ("nvidia-cudnn-frontend>=1.32",),
}
"""Requirements of each extra, as the ``pyproject.toml`` files have them."""
_ALONE = ("qied[upscalers]",)
"""Extras whose packages are installed without what they ask for: torch is there, and torchvision is not needed."""
CLIENT_WHEEL = f"qied_client-{__version__}-py3-none-any.whl"
"""File name of the client's wheel that ``make wheels`` writes to ``dist/``."""
CLIENT_INSTALL = f"pip install '{CLIENT_WHEEL}[cli,pictures]'"
"""The command that installs the client from its wheel."""
REINSTALL = "In the checkout of qied: rm -rf .venv, then make install"
"""The command that reinstalls qied."""


def pip_install(*arguments: str, here: bool = True) -> str:
    """The command that installs packages; ``here`` into the environment of the running Python, else into qied's own."""
    pip = [sys.executable, "-m", "pip"] if here else ["pip"]
    return shlex.join([*pip, "install", *arguments])


def install_extra(name: str, *, here: bool = True) -> str:
    """The command that installs what an extra stands for, such as ``qied-client[cli]``."""
    return pip_install(*(["--no-deps"] if name in _ALONE else []), *EXTRAS[name], here=here)
