"""Which build of torch a card needs, and how it is installed in place of another one."""

from __future__ import annotations

from qied_client.installing import pip_install

_BLACKWELL = (10, 0)
_WHEELS = "https://download.pytorch.org/whl/"


def install_command(capability: tuple[int, int] | None, *, here: bool = False) -> str:
    """The command that installs a torch with kernels for a card of this compute capability.

    Blackwell (10.0) needs CUDA 13, whose builds begin at Turing; those of CUDA 12.6 hold every older card, and so the
    one that is not known. ``--force-reinstall``, since pip takes any installed torch for good. ``here`` names the
    pip of the running Python.
    """
    build = "cu130" if capability is not None and capability >= _BLACKWELL else "cu126"
    return pip_install("--force-reinstall", "torch", "--index-url", f"{_WHEELS}{build}", here=here)
