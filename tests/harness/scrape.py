"""A scraper: asks a service over HTTP and reads its answer as Prometheus does."""

from __future__ import annotations

import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 10.0
Series = tuple[str, frozenset[tuple[str, str]]]


def series(name: str, **labels: str) -> Series:
    """Return the name under which a scrape holds one number."""
    return name, frozenset(labels.items())


def fetch(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    """Return the status and the body of one path."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scrape(address: str) -> Mapping[Series, float]:
    """Return every number of one scrape."""
    status, text = fetch(address, "/metrics")
    assert status == 200, text
    return {
        series(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape_until(address: str, wanted: Series, value: float) -> Mapping[Series, float]:
    """Return the first scrape in which `wanted` has this value, or the last one that was made.

    A scrape may be as old as the listener's bound says, so the first one may still be of before.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        found = scrape(address)
        if found.get(wanted) == value or time.monotonic() > deadline_s:
            return found
        time.sleep(0.02)
