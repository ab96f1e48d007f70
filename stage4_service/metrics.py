"""What Stage-4 tells a scraper about plans, refusals and halts. The list is closed.

docs/metrics.md explains each. Deliberately absent: a client, user, plan or token in any label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from servicekit.exposition import Kind, Metric
from servicekit.service_metrics import halt_metric
from servicekit.store.ledger import Ledger
from stage4_service.wire.plan_tally import PlanTally

HALT_REASONS: Final = ("clock", "disk", "seal")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where Stage-4's own numbers are kept."""

    plans: PlanTally
    suppressed: Callable[[], int]
    halt_reasons: Callable[[], frozenset[str]]
    recovered_plans: int


def halt_reasons(ledger: Ledger) -> frozenset[str]:
    """Return every reason for which no plan may start now."""
    found: set[str] = set()
    if ledger.poisoned is not None:
        found.add("seal")
    if ledger.clock_problem is not None:
        found.add("clock")
    if ledger.disk_problem is not None:
        found.add("disk")
    return frozenset(found)


def stage4_metrics(sources: Sources) -> list[Metric]:
    """Declare them."""
    return [
        Metric(
            "stagegate_stage4_plans_received_total",
            Kind.COUNTER,
            "Submissions by verdict: valid, invalid, or suppressed unread with their caller's "
            "budget spent.",
            ("verdict",),
            sources.plans.received.read,
        ),
        Metric(
            "stagegate_stage4_plans_total",
            Kind.COUNTER,
            "Submissions by how they ended.",
            ("outcome",),
            sources.plans.plans.read,
        ),
        Metric(
            "stagegate_stage4_failures_total",
            Kind.COUNTER,
            "Submissions that did not complete, by the reason that was told.",
            ("reason",),
            sources.plans.failures.read,
        ),
        Metric(
            "stagegate_stage4_plan_duration_seconds",
            Kind.HISTOGRAM,
            "How long a caller of ExecutePlan waited for its answer.",
            (),
            sources.plans.duration_s.read,
        ),
        Metric(
            "stagegate_stage4_refusals_suppressed_total",
            Kind.COUNTER,
            "Refusals that left no record of their own: their caller's budget is spent.",
            (),
            lambda: {(): sources.suppressed()},
        ),
        halt_metric("stagegate_stage4_halted", HALT_REASONS, sources.halt_reasons),
        Metric(
            "stagegate_stage4_plans_recovered",
            Kind.GAUGE,
            "Plans that the last start found open and closed as unknown.",
            (),
            lambda: {(): sources.recovered_plans},
        ),
    ]
