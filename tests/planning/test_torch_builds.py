"""Each card gets the build that has its kernels, in place of the one that is there."""

from __future__ import annotations

import pytest

from qied.planning.choosing.torch_builds import install_command


@pytest.mark.parametrize(
    ("capability", "build"),
    [((7, 0), "cu126"), ((7, 5), "cu126"), ((9, 0), "cu126"), ((10, 0), "cu130"), ((12, 0), "cu130"), (None, "cu126")],
)
def test_blackwell_gets_cuda_13_and_every_older_card_cuda_12(capability, build):
    command = install_command(capability)
    assert command.endswith(f"/whl/{build}")
    assert "--force-reinstall" in command
