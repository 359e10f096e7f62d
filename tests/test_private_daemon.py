"""A daemon for a moment that does not start says why, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import tempfile

import pytest
from qied_client.errors import SetupError

from qied.doctor.deep_trial import run_trial
from qied.doctor.meters import host_meter
from qied.private_daemon import last_words, private_daemon


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_daemon_that_cannot_start_says_its_last_words_and_where_its_log_is(temporary, tmp_path):
    log = []
    with (
        pytest.raises(SetupError, match=r"is not a model") as raised,
        private_daemon(["--model", str(tmp_path)], os.environ, 60, log),
    ):
        raise AssertionError("it cannot be ready")
    (kept,) = temporary.iterdir()
    assert raised.value.remedy == f"See its log: {kept}"
    assert kept.read_text().splitlines() == log


def test_a_trial_without_a_daemon_is_a_failure_that_says_why(temporary, tmp_path):
    told = []
    trial = run_trial(["--model", str(tmp_path)], os.environ, host_meter(), lambda what, done, total: told.append(what))
    assert "is not a model" in str(trial.failure)
    assert (trial.stranger_refused, trial.peak_bytes) == (None, 0)
    assert told == ["starting a daemon"]
    assert trial.log


def test_it_gets_the_environment_that_it_is_given(temporary):
    wrong = {**os.environ, "QIED_MODEL_GPUS": "first"}
    with pytest.raises(SetupError, match="QIED_MODEL_GPUS"), private_daemon(["--model", "builtin"], wrong, 60, []):
        raise AssertionError("it cannot be ready")


SEEN = """
import json, os
with open(os.environ["SEEN"], "w") as file:
    json.dump({name: os.environ.get(name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")}, file)
"""


@pytest.mark.parametrize("own_profiles", [False, True])
def test_its_cache_is_its_own_and_its_profiles_are_where_that_is_asked_for(temporary, tmp_path, own_profiles):
    (tmp_path / "sitecustomize.py").write_text(SEEN)
    theirs = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    environ = {**os.environ, **theirs, "PYTHONPATH": str(tmp_path), "SEEN": str(tmp_path / "seen")}
    with (
        pytest.raises(SetupError),
        private_daemon(["--model", str(tmp_path)], environ, 60, [], own_profiles=own_profiles),
    ):
        raise AssertionError("it cannot be ready")
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["XDG_CACHE_HOME"].startswith(str(temporary))
    assert seen["XDG_CONFIG_HOME"].startswith(str(temporary if own_profiles else tmp_path / "config"))


LOG = """
{"event": "worker ended", "level": "warning"}
Traceback (most recent call last):
    raise ModelUnsupported(
    ^^^^^^^^^^^^^^^^^^^^^^^
qied_client.errors.ModelUnsupported: ignored
RuntimeError: CUDA out of memory.
error setup The worker ended 5 times before its engine was loaded (last: exit 1).
  do    See the log above.
""".splitlines()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            LOG,
            "The worker ended 5 times before its engine was loaded (last: exit 1). RuntimeError: CUDA out of memory.",
        ),
        (["Killed", ""], "Killed"),
        ([], "nothing."),
    ],
    ids=["worker", "other", "silent"],
)
def test_last_words_are_the_error_and_what_broke_the_worker(log, words):
    assert last_words(log) == words
