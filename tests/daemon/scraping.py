"""Figures as Prometheus reads them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name with these labels."""
        return sum(sample.value for sample in self.of(name, **labels))

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        return (one for one in self.samples if one.name == name and labels.items() <= one.labels.items())

    def labels(self) -> dict[str, set[str]]:
        """The labels of each name."""
        found: dict[str, set[str]] = {}
        for sample in self.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
        return found


def wait_until(condition: Callable[[], object]) -> None:
    """Look until it is so."""
    waiting = threading.Event()
    for _ in range(3000):
        if condition():
            return
        waiting.wait(0.02)
    raise AssertionError("it never came to be")


def get(address: str, path: str) -> tuple[int, str]:
    """Status and body of an answer over HTTP."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape(address: str) -> Scrape:
    status, text = get(address, "/metrics")
    assert status == 200, text
    return Scrape(text)


def ready(address: str) -> tuple[int, Any]:
    status, text = get(address, "/ready")
    return status, json.loads(text)
