"""What the page shows of the machine, and what its owner may order."""

from __future__ import annotations

import pytest

from tests.web.page.visit import PICTURE


@pytest.fixture
def owner(open_at, gateway):
    user = open_at(gateway.url, gateway.tokens.add("local")[0])
    user.wait("#machine")
    user.page.click("#machine")
    yield user
    user.page.evaluate("import('/page/api.js').then(({ post }) => post('/api/control', { action: 'resume' }))")


def test_everybody_sees_the_memory_and_only_the_owner_orders(visit, owner):
    user = visit()
    user.wait("#machine")
    user.page.click("#machine")
    for each, orders in ((user, False), (owner, True)):
        each.wait(".worker .bar i")
        assert "weights" in each.page.inner_text(".legend") and "free" in each.page.inner_text(".legend")
        assert each.page.is_visible("#orders") is orders


def test_the_owner_pauses_and_sees_who_waits(visit, owner):
    owner.page.click('[data-order="pause"]')
    owner.reads("#machine-line", "paused by the owner")
    user = visit()
    user.choose(PICTURE)
    user.edit("darker", steps=1)
    user.reads("#run-step", "in the queue")
    user.until("() => document.title.endsWith(' darker')")
    owner.reads("#owner-queue", user.user)
    owner.reads("#owner-sessions", user.user)
    assert owner.page.is_visible('[data-order="resume"]') and not owner.page.is_visible('[data-order="pause"]')
    owner.page.click('[data-order="resume"]')
    user.done(1)


def test_the_orders_keep_the_focus_while_all_else_is_drawn_anew(owner):
    owner.page.focus('[data-order="unload"]')
    owner.page.evaluate("window.first = document.querySelector('#owner-cards').firstElementChild")
    owner.until("() => document.querySelector('#owner-cards').firstElementChild !== window.first")
    assert owner.page.evaluate("document.activeElement.dataset.order") == "unload"


def test_who_runs_is_named_at_the_bar(visit, owner, gate):
    user = visit()
    user.choose(PICTURE)
    user.edit(f"darker gate={gate}", steps=1)
    owner.reads(".legend", user.user)
    owner.reads("#machine-line", "1 edit on the card")
    gate.touch()
    user.done(1)


def test_the_memory_is_freed_and_the_model_loaded_again(owner):
    owner.page.click('[data-order="unload"]')
    owner.reads(".worker", "memory is free")
    owner.page.click('[data-order="load"]')
    owner.wait(".worker .legend")
    owner.wait('[data-order="unload"]')
