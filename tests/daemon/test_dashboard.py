"""Grafana's dashboard: it can be imported, and asks for figures that a real daemon has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qied_client.errors import UnknownPreset

from tests.daemon.scraping import Scrape, wait_until
from tests.daemon.test_metrics import with_figures

FILE = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "qied.json"
DATASOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
OF_PROMETHEUS = {"instance", "le"}
"""Labels that Prometheus adds, and that of buckets."""
_METRIC = re.compile(r"\bqied_\w+")
_SELECTED = re.compile(r"(?P<metric>qied_\w+)\{(?P<labels>[^}]*)\}")
_GROUPED = re.compile(r"\bby \((?P<labels>[^)]*)\) \((?P<inner>.*)")


def board() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def panels() -> Iterator[dict[str, Any]]:
    for panel in board()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def test_it_has_what_an_import_needs():
    found = board()
    (given,) = found["__inputs"]
    assert (given["name"], given["type"], given["pluginId"]) == ("DS_PROMETHEUS", "datasource", "prometheus")
    assert found["schemaVersion"] >= 36 and found["id"] is None and found["uid"] and found["title"] == "qied"
    kinds = {panel["type"] for panel in panels()}
    assert kinds - {"row"} == {each["id"] for each in found["__requires"] if each["type"] == "panel"}
    assert len({panel["id"] for panel in panels()}) == len(list(panels()))
    assert [panel["title"] for panel in panels() if panel["type"] == "row"] == [
        "Traffic",
        "Latency",
        "Memory",
        "Errors",
    ]


def test_every_panel_asks_the_chosen_prometheus_and_says_what_it_shows():
    for panel in panels():
        assert {"h", "w", "x", "y"} == set(panel["gridPos"])
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == DATASOURCE and panel["targets"] and panel["description"].endswith(".")
        assert all(target["datasource"] == DATASOURCE and target["legendFormat"] for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    (variable,) = board()["templating"]["list"]
    assert variable["datasource"] == DATASOURCE


def test_no_panel_lies_on_another():
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_latency_is_shown_by_quantiles():
    quantiles = [each for each in expressions() if each.startswith("histogram_quantile(")]
    assert {re.search(r"\((0\.\d+),", each)[1] for each in quantiles} == {"0.5", "0.95"}
    assert all("_bucket{" in each and "by (le" in each for each in quantiles)


@pytest.fixture
def found(daemon_process, tmp_path, picture) -> Iterator[dict[str, set[str]]]:
    """Names and labels of a daemon in which something of everything has happened."""
    memory = tmp_path / "memory"
    memory.write_text(f"{2**30} {2**40}")
    daemon = daemon_process(tmp_path / "home", QIED_TEST_MEMORY=str(memory))
    with_figures(daemon)
    with daemon.client() as client:
        client.edit(picture, "calm", steps=3, seed=1, width=64, height=48)
        with pytest.raises(UnknownPreset):
            client.edit(picture, "calm", preset="none-of-these")
        wait_until(lambda: list(Scrape(client.metrics()).of("qied_plan_error_ratio")))
        scrape = Scrape(client.metrics())
    yield scrape.labels()
    daemon.kill()


def test_every_metric_and_label_is_in_a_real_scrape(found):
    assert len(expressions()) > 20
    for expression in expressions():
        metrics = _METRIC.findall(expression)
        assert metrics and set(metrics) <= set(found), expression
        for selected in _SELECTED.finditer(expression):
            names = set(re.findall(r"(\w+)\s*=", selected["labels"]))
            assert names <= found[selected["metric"]] | OF_PROMETHEUS, expression
        for grouped in _GROUPED.finditer(expression):
            (metric, *_) = _METRIC.findall(grouped["inner"])
            names = {name.strip() for name in grouped["labels"].split(",")}
            assert names <= found[metric] | OF_PROMETHEUS, expression
    for panel in panels():
        for target in panel.get("targets", ()):
            (metric, *_) = _METRIC.findall(target["expr"])
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= found[metric] | {"instance"}


def test_every_family_but_process_facts_is_shown(found):
    shown = {name for expression in expressions() for name in _METRIC.findall(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
