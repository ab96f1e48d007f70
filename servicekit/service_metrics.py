"""What every service measures: its store, its listeners, its certificates, and what it is.

Each is read where it is kept, at the moment of the scrape. Deliberately absent: a label that a
caller could choose.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from servicekit.clock import SystemClock
from servicekit.exposition import CONTENT_TYPE, Kind, Metric, Scrape
from servicekit.serving.rotation import Rotation
from servicekit.serving.scrape_listener import ScrapeListener
from servicekit.serving.server import RunningServer
from servicekit.store.ledger import Ledger
from servicekit.tally import Key

__all__ = ["common_metrics", "halt_metric", "serve_metrics"]


def common_metrics(
    service: str,
    version: str,
    *,
    ready: Callable[[], bool],
    ledger: Ledger,
    store: Path,
    listeners: Sequence[RunningServer],
    certificates: Mapping[str, Rotation],
) -> list[Metric]:
    """Declare what both services tell. `store` is the path of the ledger's file."""
    return [
        *build_metrics(service, version, ready),
        *store_metrics(ledger, store),
        *listener_metrics(listeners),
        *certificate_metrics(certificates),
    ]


def serve_metrics(
    address: str, metrics: Sequence[Metric], ready: Callable[[], bool]
) -> ScrapeListener | None:
    """Bind the listener that tells them; None where the address is empty.

    Raises:
        AddressRefused, PortUnavailable: as `ScrapeListener` does.
    """
    if not address:
        return None
    return ScrapeListener(
        address,
        metrics=Scrape(metrics).text,
        content_type=CONTENT_TYPE,
        ready=ready,
        # The network's time is the machine's, whatever clock the log has.
        monotonic_s=SystemClock().monotonic_s,
    )


def build_metrics(service: str, version: str, ready: Callable[[], bool]) -> list[Metric]:
    """Declare what runs, and whether it answers."""
    return [
        Metric(
            "stagegate_build_info",
            Kind.GAUGE,
            "Always 1; the labels say which service of which version this is.",
            ("service", "version"),
            lambda: {(service, version): 1},
        ),
        Metric(
            "stagegate_ready",
            Kind.GAUGE,
            "1 after recovery until the drain begins, as probes are told.",
            (),
            lambda: {(): int(ready())},
        ),
    ]


def store_metrics(ledger: Ledger, path: Path) -> list[Metric]:
    """Declare the log and its writer. `path` is the store's file."""
    pulse = ledger.pulse
    return [
        Metric(
            "stagegate_store_entries",
            Kind.GAUGE,
            "Entries of the log: the size of its durable tree head.",
            (),
            lambda: {(): ledger.head.size},
        ),
        Metric(
            "stagegate_store_bytes",
            Kind.GAUGE,
            "Bytes of the store's files.",
            ("file",),
            lambda: _sizes(path),
        ),
        Metric(
            "stagegate_store_disk_free_bytes",
            Kind.GAUGE,
            "Bytes that the service may still write to the disk of its store.",
            (),
            lambda: {(): _free_bytes(path)},
        ),
        Metric(
            "stagegate_store_poisoned",
            Kind.GAUGE,
            "1 from the first failed write on: nothing is written any more, the process ends.",
            (),
            lambda: {(): int(ledger.poisoned is not None)},
        ),
        Metric(
            "stagegate_store_queue_depth",
            Kind.GAUGE,
            "Works that wait for the writer now.",
            (),
            lambda: {(): ledger.queue_depth},
        ),
        Metric(
            "stagegate_store_commits_total",
            Kind.COUNTER,
            "Commits that were synced.",
            (),
            lambda: {(): ledger.commits},
        ),
        Metric(
            "stagegate_store_queue_wait_seconds",
            Kind.HISTOGRAM,
            "How long a work waited for its turn at the writer.",
            (),
            pulse.queue_wait_s.read,
        ),
        Metric(
            "stagegate_store_sync_seconds",
            Kind.HISTOGRAM,
            "How long a commit took to become durable.",
            (),
            pulse.sync_s.read,
        ),
        Metric(
            "stagegate_store_batch_works",
            Kind.HISTOGRAM,
            "Works that shared one commit.",
            (),
            pulse.works.read,
        ),
        Metric(
            "stagegate_store_append_failures_total",
            Kind.COUNTER,
            "Works that were not made durable, or not known to be.",
            (),
            pulse.failures.read,
        ),
    ]


def listener_metrics(listeners: Sequence[RunningServer]) -> list[Metric]:
    """Declare how busy each listener is."""
    return [
        Metric(
            "stagegate_listener_calls_in_flight",
            Kind.GAUGE,
            "Calls running or waiting for a thread now.",
            ("listener",),
            lambda: {(each.name,): each.in_flight for each in listeners},
        ),
        Metric(
            "stagegate_listener_overloaded_total",
            Kind.COUNTER,
            "Calls refused as OVERLOADED because the listener was full.",
            ("listener",),
            lambda: {(each.name,): each.overloaded for each in listeners},
        ),
    ]


def certificate_metrics(shown: Mapping[str, Rotation]) -> list[Metric]:
    """Declare when each certificate that this service shows ends, by what it is for."""
    return [
        Metric(
            "stagegate_certificate_not_after_timestamp_seconds",
            Kind.GAUGE,
            "Unix time from which the certificate in use is no longer valid.",
            ("certificate",),
            lambda: {
                (name,): each.current().expires_at.timestamp() for name, each in shown.items()
            },
        )
    ]


def halt_metric(name: str, reasons: Sequence[str], now: Callable[[], frozenset[str]]) -> Metric:
    """Declare why no step may start: one series for each of `reasons`, 1 where it holds."""

    def read() -> dict[Key, int]:
        current = now()
        return {(reason,): int(reason in current) for reason in reasons}

    return Metric(name, Kind.GAUGE, "1 while no plan may start for this reason.", ("reason",), read)


def _sizes(path: Path) -> dict[Key, int]:
    wal = path.with_name(path.name + "-wal")
    return {("database",): path.stat().st_size, ("wal",): wal.stat().st_size}


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
