"""Measures the first command of the README in a clean clone: bytes fetched, bytes on disk, seconds.

README.md beside this file tells the method.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wire_bench.machine import command

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.pins import public_environment  # noqa: E402 - tools is no package that is installed

_FETCHED = re.compile(r"(?:Downloading|Processing) \S+\.whl(?:\.metadata)? \(([\d.]+) (kB|MB|GB|bytes)\)")
_LOCAL = re.compile(r"(?:Looking|Processing|Using) .*?(/\S+\.whl)")
_FACTORS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def main() -> None:
    """Clone, run `make demo`, and add the figures to the file under the name of torch's build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to this file")
    parser.add_argument("--python", default="python3", help="what the environment is made with")
    parser.add_argument(
        "--public", action="store_true", help="from the public index alone, without pip's configuration"
    )
    parser.add_argument("--folder", type=Path, help="where the clone may lie for a while; 8 GB")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qied-install-", dir=chosen.folder) as folder:
        found = measured(Path(folder) / "qied", chosen.python, public=chosen.public)
    print(json.dumps(found, indent=1))
    if chosen.json is not None:
        report: dict[str, Any] = {"schema": 1, "benchmark": "install"}
        if chosen.json.exists():
            report = json.loads(chosen.json.read_text())
        report.setdefault("builds", {})["cpu" if found["torch"].endswith("+cpu") else "cuda"] = found
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measured(clone: Path, python: str, *, public: bool) -> dict[str, Any]:
    """Figures of one installation: bytes, seconds, and what was installed."""
    environment = public_environment(os.environ) if public else dict(os.environ)
    environment["PIP_NO_CACHE_DIR"] = "1"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    started = time.monotonic()
    install = _run(["make", "install", f"PYTHON={python}"], clone, environment)
    installed = time.monotonic()
    _run(["make", "demo"], clone, environment)
    ended = time.monotonic()
    pip = clone / ".venv" / "bin" / "python"
    facts = "import platform, torch; print(platform.python_version(), torch.__version__)"
    version, torch = subprocess.run([pip, "-c", facts], check=True, capture_output=True, text=True).stdout.split()
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command(),
        "python": version,
        "torch": torch,
        "fetched_bytes": round(_fetched(install)),
        "environment_bytes": _size(clone / ".venv"),
        "install_s": round(installed - started, 1),
        "demo_s": round(ended - installed, 1),
    }


def _run(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _fetched(output: str) -> float:
    """Bytes of the wheels that pip says it fetched, local ones included."""
    remote = sum(
        float(size) * _FACTORS[unit]
        for line in output.splitlines()
        if ".metadata" not in line
        for size, unit in _FETCHED.findall(line)
    )
    local = {path for path in _LOCAL.findall(output) if Path(path).exists()}
    return remote + sum(Path(path).stat().st_size for path in local)


def _size(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
