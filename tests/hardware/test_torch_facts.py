"""Facts of torch come from its files, and from a child process that is asked once per installation."""

from __future__ import annotations

import os

import pytest

from qied.hardware.cache import FactCache
from qied.hardware.snapshot import Torch
from qied.hardware.torch_facts import find_torch, parse_version, read_torch

IMPORTABLE = """
from types import SimpleNamespace
with open({log!r}, "a") as log:
    log.write("imported ")
print("hello from a library")
class _C:
    @staticmethod
    def _cuda_getArchFlags():
        return "sm_80 sm_90"
backends = SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91002))
"""


@pytest.fixture
def installed(tmp_path, captured):
    """A folder with a package named torch, and the environment in which a child imports that one."""

    def install(init):
        package = tmp_path / "site" / "torch"
        package.mkdir(parents=True)
        (package / "version.py").write_text(captured("torch-version-cuda.txt"))
        (package / "__init__.py").write_text(init)
        path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
        return package, {**os.environ, "PYTHONPATH": path}

    return install


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("torch-version-cuda.txt", Torch(version="2.13.0+cu126", cuda="12.6")),
        ("torch-version-old.txt", Torch(version="2.1.0+cu121", cuda="12.1")),
        ("torch-version-rocm.txt", Torch(version="2.7.1+rocm6.3", cuda=None)),
    ],
)
def test_version_and_cuda_are_read_without_an_import(captured, file, expected):
    assert parse_version(captured(file)) == expected


@pytest.mark.parametrize("text", ["", "__version__ = 3", "this is no Python", "__version__ = get()"])
def test_a_file_that_names_no_version_is_refused(text):
    with pytest.raises(ValueError, match=r"no version|not Python"):
        parse_version(text)


def test_a_child_imports_torch_once_and_its_facts_are_kept(tmp_path, installed):
    log = tmp_path / "imports"
    package, environ = installed(IMPORTABLE.format(log=str(log)))
    cache = FactCache(tmp_path / "cache", "torch")
    for _ in range(2):
        answer = read_torch(cache, environ, package=package, with_card=True)
        assert answer.torch == Torch(version="2.13.0+cu126", cuda="12.6", arch_list=("sm_80", "sm_90"), cudnn="9.10.2")
        assert answer.problems == ()
    assert log.read_text() == "imported "


def test_another_installation_is_imported_again(tmp_path, installed):
    log = tmp_path / "imports"
    package, environ = installed(IMPORTABLE.format(log=str(log)))
    cache = FactCache(tmp_path / "cache", "torch")
    read_torch(cache, environ, package=package, with_card=True)
    os.utime(package / "version.py", ns=(1, 1))
    read_torch(cache, environ, package=package, with_card=True)
    assert log.read_text() == "imported imported "


def test_without_a_card_nothing_is_imported(tmp_path, installed):
    package, environ = installed("raise ImportError('imported after all')")
    answer = read_torch(FactCache(tmp_path, "torch"), environ, package=package, with_card=False)
    assert answer.torch == Torch(version="2.13.0+cu126", cuda="12.6")
    assert answer.problems == ()


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12: cannot open"),
        ("import os; os.abort()", "the process died with SIGABRT"),
        ("version = 3", "the process ended with status 1"),
    ],
)
def test_a_torch_that_cannot_be_imported_is_named_with_the_reason_and_not_kept(tmp_path, installed, init, reason):
    package, environ = installed(init)
    cache = FactCache(tmp_path / "cache", "torch")
    answer = read_torch(cache, environ, package=package, with_card=True)
    assert answer.torch == Torch(version="2.13.0+cu126", cuda="12.6")
    assert [problem.code for problem in answer.problems] == ["torch_broken"]
    assert reason in answer.problems[0].message
    assert not (tmp_path / "cache").exists()


def test_a_torch_that_hangs_is_given_up(tmp_path, installed):
    package, environ = installed("import threading; threading.Event().wait()")
    cache = FactCache(tmp_path / "cache", "torch")
    answer = read_torch(cache, environ, package=package, with_card=True, limit_s=0.5)
    assert "no answer within 0.5 s" in answer.problems[0].message


def test_an_empty_folder_named_torch_is_damaged(tmp_path):
    answer = read_torch(FactCache(tmp_path, "torch"), {}, package=tmp_path, with_card=True)
    assert answer.torch is None
    assert [problem.code for problem in answer.problems] == ["torch_broken"]


def test_no_torch_is_no_problem(tmp_path):
    answer = read_torch(FactCache(tmp_path, "torch"), {}, package=None, with_card=True)
    assert (answer.torch, answer.problems) == (None, ())


def test_the_installed_torch_is_found():
    assert (find_torch() / "version.py").is_file()
