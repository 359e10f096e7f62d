"""Writes constraints.txt, and proves that its pins resolve from the public index on every Python that is promised.

``write`` resolves what ``make install`` installs, keeps the versions that are pinned, and pins what is not.
``check`` fails where a pin cannot be had or a package has none.
``lowest`` lists the lowest version that is accepted of each direct dependency, for ``make test-lowest``.
All of them ignore local wheel folders and pip's configuration.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
"""Where the daemon runs."""
CLIENT_PLATFORMS = (*PLATFORMS, "windows", "macos")
_CLIENT = {"client": ("cli", "pictures", "web", "test")}
_ALL = {**_CLIENT, ".": ("dev", "fp8-attention", "formats")}
"""Folders of projects, and the extras of theirs that are installed."""
ALONE = {".": ("upscalers",)}
"""Extras whose packages are installed without what they ask for: see pyproject.toml."""
_TRANSPORT = {"PIP_CERT", "PIP_PROXY", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES"}
"""Variables that say how an index is reached, not which one."""


def public_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without anything that would add or replace a source of packages."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _TRANSPORT or not name.startswith(("PIP_", "UV_", "VIRTUAL_ENV"))
    }
    if "PIP_CERT" in kept:
        kept.setdefault("SSL_CERT_FILE", kept["PIP_CERT"])
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def write() -> None:
    """Write constraints.txt anew."""
    options = ("--universal", "--python-version", PYTHONS[0])
    lines = {
        *_resolved(_ALL, *options, pins=PINS).splitlines(),
        *_resolved(ALONE, "--no-deps", *options, pins=PINS, project=False).splitlines(),
    }
    (ROOT / PINS).write_text(
        "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.partition("==")[0])), encoding="utf-8"
    )


def check(pins: str = PINS) -> list[str]:
    """Everything that is wrong with the pins; empty where each promised environment resolves."""
    wrong = []
    for python in PYTHONS:
        for wanted, platforms in ((_ALL, PLATFORMS), (_CLIENT, CLIENT_PLATFORMS)):
            for platform in platforms:
                alone = ALONE if wanted is _ALL else {}
                options = ("--python-version", python, "--python-platform", platform, "--only-binary", ":all:")
                name = f"Python {python}, {platform}, {'all' if wanted is _ALL else 'client'}"
                _say(name)
                try:
                    found = _resolved(wanted, *options, pins=pins)
                    found += _resolved(alone, "--no-deps", *options, pins=pins, project=False) if alone else ""
                except ResolutionError as error:
                    wrong.append(f"{name}: {error}")
                    continue
                missing = _names(found) - _names((ROOT / pins).read_text(encoding="utf-8"))
                wrong += [f"{name}: {each} has no pin; make pins" for each in sorted(missing)]
    _say(f"pip, Python {sys.version_info[0]}.{sys.version_info[1]}")
    return [*wrong, *_pip_problems(pins)]


def lowest() -> str:
    """The lowest accepted version of each direct dependency, and what goes with them, as requirements."""
    return _resolved(_ALL, "--resolution", "lowest-direct", "--python-version", PYTHONS[0], pins=None)


class ResolutionError(Exception):
    """The pins cannot be had together."""


def requirements(wanted: Mapping[str, Sequence[str]], *, project: bool = True) -> list[str]:
    """What projects and these extras of theirs require, but for each other; without ``project``, the extras alone."""
    found: list[str] = []
    for folder, extras in wanted.items():
        facts = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        found += facts["dependencies"] if project else []
        for extra in extras:
            found += facts["optional-dependencies"][extra]
    return [each for each in found if not each.startswith("qied-client")]


def _resolved(wanted: Mapping[str, Sequence[str]], *options: str, pins: str | None, project: bool = True) -> str:
    """What uv resolves ``wanted`` to, a line for each package."""
    command = [_uv(), "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", *options]
    if pins is not None:
        command += ["--constraints", pins]
    text = "\n".join(requirements(wanted, project=project))
    environment = public_environment(os.environ)
    done = subprocess.run(command, cwd=ROOT, env=environment, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ResolutionError(" ".join(done.stderr.split()))
    return done.stdout


def _pip_problems(pins: str) -> list[str]:
    """What pip itself, with which people install, says against the pins for this Python."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
        command += ["--only-binary", ":all:", "--target", folder, "-c", pins, *requirements(_ALL)]
        environment = public_environment(os.environ)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return [f"pip: {' '.join(done.stderr.split())[-600:]}"] if done.returncode else []


def _names(requirements: str) -> set[str]:
    lines = (line.partition(";")[0].partition("==")[0].strip() for line in requirements.splitlines())
    return {line.lower().replace("_", "-") for line in lines if line and not line.startswith(("#", "-"))}


def _uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        sys.exit(f"uv is missing: {sys.executable} -m pip install uv")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run one of the commands; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("write", "check", "lowest"))
    parser.add_argument("--pins", default=PINS, help="file of pins to check")
    chosen = parser.parse_args()
    if chosen.command == "lowest":
        sys.stdout.write(lowest())
        return 0
    if chosen.command == "write":
        write()
        return 0
    wrong = check(chosen.pins)
    for each in wrong:
        _say(each)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
