"""How packages are chosen: pins from the public index alone, and a build of torch that fits the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import pins
from tools.torch_index import CPU_INDEX, options

ROOT = Path(__file__).parent.parent


def test_local_wheels_other_indexes_and_configuration_do_not_count_as_public() -> None:
    given = {
        "PATH": "/bin",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_EXTRA_INDEX_URL": "https://mirror",
        "PIP_CONSTRAINT": "/c.txt",
        "PIP_CERT": "/ca.crt",
        "UV_FIND_LINKS": "/wheels",
    }
    found = pins.public_environment(given)
    assert found["PIP_CONFIG_FILE"] == os.devnull
    assert (found["UV_NO_CONFIG"], found["SSL_CERT_FILE"], found["PATH"]) == ("1", "/ca.crt", "/bin")
    assert not {"PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "UV_FIND_LINKS"} & set(found)


def test_everything_that_the_projects_name_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / pins.PINS).read_text().splitlines()}
    wanted = [*pins.requirements(pins._ALL), *pins.requirements(pins.ALONE, project=False)]
    needed = [each for each in map(Requirement, wanted) if _is_for_a_promised_python(each)]
    named = {canonicalize_name(each.name) for each in needed}
    assert named <= pinned, "make pins"


def _is_for_a_promised_python(wanted: Requirement) -> bool:
    """The client also runs on a Python that is not pinned for, which needs more."""
    return wanted.marker is None or any(wanted.marker.evaluate({"python_version": each}) for each in pins.PYTHONS)


def test_ci_proves_the_pins_and_runs_the_readmes_own_test_command() -> None:
    steps = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert "step make pins-check" in steps
    assert steps[-1] == "step make test"
    assert "\nmake test " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("environ", "has_card", "reachable", "expected"),
    [
        ({}, True, True, []),
        ({}, False, True, ["--extra-index-url", CPU_INDEX]),
        ({}, False, False, []),
        ({"TORCH": "cpu"}, True, False, ["--extra-index-url", CPU_INDEX]),
        ({"TORCH": "cuda"}, False, True, []),
        ({"TORCH": "https://mine"}, False, False, ["--extra-index-url", "https://mine"]),
    ],
)
def test_torch_is_built_for_the_card_or_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    has_card: bool,
    reachable: bool,
    expected: list[str],
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    found, why = options(environ, has_card, lambda _: reachable)
    assert found == expected
    assert why


def test_where_the_public_index_has_a_build_for_the_system_nothing_else_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert options({}, False, lambda _: pytest.fail("asked"))[0] == []
