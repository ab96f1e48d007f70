"""Guard what a scraper is told: declared metrics only, each read at the moment it is asked for.

One registry for each service, so that two in one process never share a number. Deliberately
absent: globals, metrics made while serving, and an exception that would take the others along: what
cannot be read is left out and counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from servicekit.tally import Key, Spread

__all__ = ["CONTENT_TYPE", "UNREADABLE", "Kind", "Metric", "Scrape"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNREADABLE: Final = "stagegate_metrics_unreadable"


class Values(Protocol):
    """What a metric reads: a number or a spread for each tuple of label values."""

    def items(self) -> Iterable[tuple[Key, float | Spread]]:
        """Return all of them."""
        ...


class Kind(StrEnum):
    """Name how a metric is read: counters only grow, gauges are now, histograms are spread."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """Declare one metric: its full name, what it says, its labels, and where it is read.

    `read` is called in the scraper's thread, returns one value for each tuple of label values, and
    never waits for a plan.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Values]


class Scrape:
    """Every metric of one service, and those of its process, as one text."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Declare the metrics.

        Raises:
            ValueError: two of them have one name.
        """
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(_Declared(metrics))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return the text format 0.0.4, in UTF-8."""
        return generate_latest(self._registry)


class _Declared(Collector):
    """The declared metrics, in their order."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Family]:
        """Say the names alone: a registry asks for them before anything can be read."""
        for metric in self._metrics:
            yield _family(metric, {})

    def collect(self) -> Iterator[Family]:
        """Read all metrics once; what cannot be read is counted in the last of them."""
        unreadable = 0
        for metric in self._metrics:
            try:
                family = _family(metric, metric.read())
            except Exception:  # noqa: BLE001 - one number that cannot be read hides no other
                unreadable += 1
            else:
                yield family
        yield GaugeMetricFamily(
            UNREADABLE, "Declared metrics that this scrape could not read.", unreadable
        )


def _family(metric: Metric, values: Values) -> Family:
    match metric.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for key, value in values.items():
                counter.add_metric(key, _number(value))
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for key, value in values.items():
                gauge.add_metric(key, _number(value))
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for key, value in values.items():
                spread = _spread(value)
                histogram.add_metric(key, _buckets(spread), spread.total)
            return histogram


def _number(value: float | Spread) -> float:
    if isinstance(value, Spread):
        raise TypeError("a spread is not a number")
    return value


def _spread(value: float | Spread) -> Spread:
    if not isinstance(value, Spread):
        raise TypeError("a number is not a spread")
    return value


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    """Return the counts as Prometheus has them: each bucket holds all those below it."""
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*map(str, spread.bounds), "+Inf"), spread.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets
