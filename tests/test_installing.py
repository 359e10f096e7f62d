"""What is said of installing qied is so: versions, extras, and names that no package index has."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from qied_client import installing
from qied_client.version import __version__ as client_version

from qied import __version__

ROOT = Path(__file__).parent.parent
PROJECTS = {
    folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in (".", "client")
}


def test_the_client_is_pinned_to_qieds_own_version() -> None:
    assert __version__ == client_version
    assert f"qied-client[cli,pictures,web]=={__version__}" in PROJECTS["."]["dependencies"]


def test_the_newest_release_of_the_changelog_is_this_version_with_its_date() -> None:
    newest = re.search(r"^## (?!Unreleased$)(.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert re.fullmatch(rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)", newest.group(1))


@pytest.mark.parametrize("name", installing.EXTRAS)
def test_an_extra_is_told_as_its_project_has_it(name: str) -> None:
    distribution, extra = name.rstrip("]").split("[")
    project = next(each for each in PROJECTS.values() if each["name"] == distribution)
    wanted = [requirement.split(";")[0].strip() for requirement in project["optional-dependencies"][extra]]
    assert list(installing.EXTRAS[name]) == wanted


def test_nothing_tells_people_to_install_what_no_index_has() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    wrong = re.compile(r"pip3? install [^\n`]*?(?<![\w/.-])['\"]?qied(-client)?(?=[\s'\"`\[=]|$)")
    found = [
        f"{name}: {line.strip()}"
        for name in listed
        if name.endswith((".py", ".md", ".toml", ".json"))
        and not name.startswith(("tests/test_installing", "benchmarks/results/"))
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if wrong.search(line)
    ]
    assert not found


def test_the_wheels_hold_what_they_should_and_the_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    for folder in PROJECTS:
        subprocess.run(command, cwd=ROOT / folder, check=True, capture_output=True)
    names = {path.name: zipfile.ZipFile(path).namelist() for path in tmp_path.glob("*.whl")}
    client = names[installing.CLIENT_WHEEL]
    assert all(name.startswith(("qied_client/", f"qied_client-{client_version}.dist-info/")) for name in client)
    daemon = names[f"qied-{__version__}-py3-none-any.whl"]
    assert "qied/builtin/model/model_index.json" in daemon
    assert any(name.startswith("qied/profiles/") for name in daemon)
    assert sum(name.endswith("/tokenizer.json") for name in daemon) == 1
    for held in (client, daemon):
        assert any(name.endswith("py.typed") for name in held)
        assert {name.rpartition("/")[2] for name in held if "/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_a_source_distribution_holds_what_builds_the_wheel_and_nothing_of_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    for folder in PROJECTS:
        subprocess.run(command, cwd=ROOT / folder, check=True, capture_output=True)
    for path in tmp_path.glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        tops = {name.partition("/")[0] for name in names}
        assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= tops
        assert not tops & {".ci", "benchmarks", "dist", "tools"}
        assert not any(name.endswith((".whl", ".so")) for name in names)
