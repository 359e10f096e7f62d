"""What is kept comes back under its own key only, and damage is the same as absence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qied.hardware.cache import FactCache
from qied.hardware.snapshot import Trial

KEY = {"driver": "560.35.03", "index": None, "revision": 1}
TRIAL = Trial(ok=True, tflops=97.0)


def test_what_was_stored_comes_back(tmp_path):
    cache = FactCache(tmp_path / "not yet there", "trial")
    assert cache.load(KEY, Trial) is None
    cache.store(KEY, TRIAL)
    assert cache.load(KEY, Trial) == TRIAL
    assert [path.suffix for path in (tmp_path / "not yet there").iterdir()] == [".json"]


@pytest.mark.parametrize("change", [{"driver": "570.0"}, {"index": 0}, {"revision": 2}, {"more": "x"}])
def test_another_key_is_another_fact(tmp_path, change):
    cache = FactCache(tmp_path, "trial")
    cache.store(KEY, TRIAL)
    assert cache.load({**KEY, **change}, Trial) is None
    assert FactCache(tmp_path, "other").load(KEY, Trial) is None


@given(damage=st.binary(max_size=40), cut=st.integers(0, 200))
def test_a_damaged_file_is_as_good_as_none(tmp_path_factory, damage, cut):
    cache = FactCache(tmp_path_factory.mktemp("cache"), "trial")
    cache.store(KEY, TRIAL)
    path = cache.path(KEY)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole) - 2)] + damage)
    assert cache.load(KEY, Trial) in (None, TRIAL)


@pytest.mark.parametrize(
    "change", [{"schema_version": 2}, {"key": {}}, {"value": {"ok": "perhaps"}}, {"value": {"ok": True, "new": 1}}]
)
def test_a_document_of_another_schema_key_or_shape_is_not_used(tmp_path, change):
    cache = FactCache(tmp_path, "trial")
    cache.store(KEY, TRIAL)
    path = cache.path(KEY)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert cache.load(KEY, Trial) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = FactCache(tmp_path / "file", "trial")
    cache.store(KEY, TRIAL)
    assert cache.load(KEY, Trial) is None


def test_a_read_only_cache_keeps_nothing_and_gives_what_is_there(tmp_path):
    reader = FactCache(tmp_path / "cache", "trial", read_only=True)
    reader.store(KEY, TRIAL)
    assert not (tmp_path / "cache").exists()
    FactCache(tmp_path / "cache", "trial").store(KEY, TRIAL)
    assert reader.load(KEY, Trial) == TRIAL
