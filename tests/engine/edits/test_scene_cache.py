import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qied.engine.edits.scene_cache import KEPT_S, SceneCache, SceneCaches


def floats(count: int) -> Tensor:
    return torch.zeros(count)


def test_what_was_put_is_found_again_and_counted() -> None:
    cache, value = SceneCache(100), floats(5)
    assert cache.get("prompt", "p", Tensor) is None
    cache.put("prompt", "p", value)
    assert cache.get("prompt", "p", Tensor) is value
    assert (cache.hits["prompt"], cache.misses["prompt"], cache.bytes_used) == (1, 1, 20)


def test_kinds_do_not_share_keys() -> None:
    cache = SceneCache(100)
    cache.put("prompt", "k", floats(1))
    assert cache.get("reference", "k", Tensor) is None


def test_the_least_recently_used_value_goes_first() -> None:
    cache = SceneCache(80)
    cache.put("prompt", "old", floats(10))
    cache.put("prompt", "new", floats(10))
    cache.get("prompt", "old", Tensor)
    cache.put("prompt", "third", floats(5))
    assert cache.get("prompt", "new", Tensor) is None
    assert cache.get("prompt", "old", Tensor) is not None


def test_a_value_larger_than_the_limit_is_not_kept_and_drops_nothing() -> None:
    cache = SceneCache(40)
    cache.put("prompt", "small", floats(10))
    cache.put("prompt", "large", floats(11))
    assert cache.get("prompt", "large", Tensor) is None
    assert cache.get("prompt", "small", Tensor) is not None


def test_clearing_forgets_values_and_keeps_the_counters() -> None:
    cache = SceneCache(100)
    cache.put("prompt", "p", floats(1))
    cache.get("prompt", "p", Tensor)
    cache.clear()
    assert cache.bytes_used == 0
    assert cache.get("prompt", "p", Tensor) is None
    assert cache.hits["prompt"] == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30))), st.integers(0, 200))
def test_the_bytes_used_are_those_of_what_is_kept_and_within_the_limit(puts: list[tuple[int, int]], limit: int) -> None:
    cache = SceneCache(limit)
    for key, count in puts:
        cache.put("vision", key, floats(count))
        kept = [cache.get("vision", each, Tensor) for each in range(6)]
        assert cache.bytes_used == sum(value.nbytes for value in kept if value is not None) <= limit


def test_the_least_recently_used_scope_goes_first_and_their_number_is_limited() -> None:
    caches = SceneCaches(100, scopes=2)
    for scope in ("one", "two", "one", "three"):
        caches.of(scope)
    assert caches.scopes == ("one", "three")


def test_without_a_scope_nothing_is_kept() -> None:
    caches = SceneCaches(100)
    caches.of(None).put("prompt", "a", floats(1))
    assert (caches.bytes_used, caches.scopes) == (0, ())


def test_what_is_used_stays_and_what_is_not_goes_as_the_next_edit_begins() -> None:
    now = 0.0
    caches = SceneCaches(1000, clock=lambda: now)
    caches.of("anna").put("prompt", "used", floats(5))
    caches.of("anna").put("prompt", "unused", floats(5))
    caches.of("ben").put("reference", "unused", floats(5))
    now = KEPT_S * 0.6
    assert caches.of("anna").get("prompt", "used", Tensor) is not None
    now = KEPT_S * 1.2
    anna = caches.of("anna")
    assert anna.get("prompt", "used", Tensor) is not None
    assert anna.get("prompt", "unused", Tensor) is None
    assert caches.bytes_used == anna.bytes_used == 20


def test_ever_new_pictures_do_not_fill_the_cache() -> None:
    now = 0.0
    caches = SceneCaches(1 << 30, clock=lambda: now)
    sizes = []
    for second in range(int(4 * KEPT_S)):
        now = float(second)
        caches.of("anna").put("vision", second, floats(10))
        sizes.append(caches.bytes_used)
    assert max(sizes) == sizes[-1] == sizes[int(KEPT_S) + 2]
