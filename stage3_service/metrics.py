"""What Stage-3 tells a scraper about plans, denials, steps and halts. The list is closed.

docs/metrics.md explains each. Deliberately absent: a user, plan, token or caller in any label, and
the name of a domain or method that is not declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from servicekit.exposition import Kind, Metric
from servicekit.service_metrics import halt_metric
from stage3_service.audit.records import HaltReason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servicekit.store.ledger import Ledger
    from servicekit.tally import Durations
    from stage3_service.store.event_tally import EventTally
    from stage3_service.store.operator_reads import SqliteOperatorReads
    from stage3_service.store.seal import Seal
    from stage3_service.wire.plan_tally import PlanTally

HALT_REASONS: Final = tuple(sorted(reason.value for reason in HaltReason))


@dataclass(frozen=True, slots=True)
class Sources:
    """Where Stage-3's own numbers are kept."""

    plans: PlanTally
    events: EventTally
    durations: Durations
    suppressed: Callable[[], int]
    abandoned: Callable[[], Mapping[str, int]]
    halt_reasons: Callable[[], frozenset[HaltReason]]
    recovered_plans: int


def halt_reasons(ledger: Ledger, reads: SqliteOperatorReads, seal: Seal) -> frozenset[HaltReason]:
    """Return every reason for which no step may start now.

    Raises:
        StoreError: what an operator said cannot be read.
    """
    found: set[HaltReason] = set()
    if ledger.poisoned is not None or seal.closed:
        found.add(HaltReason.SEAL)
    if ledger.clock_problem is not None:
        found.add(HaltReason.CLOCK)
    if ledger.disk_problem is not None:
        found.add(HaltReason.DISK)
    if reads.halt() is not None:
        found.add(HaltReason.OPERATOR)
    return frozenset(found)


def stage3_metrics(sources: Sources) -> list[Metric]:
    """Declare them."""
    return [
        Metric(
            "stagegate_stage3_plans_total",
            Kind.COUNTER,
            "Plans by what their caller was told.",
            ("outcome",),
            sources.plans.plans.read,
        ),
        Metric(
            "stagegate_stage3_refusals_total",
            Kind.COUNTER,
            "Plans that were not admitted or not recorded, by the reason that was told.",
            ("reason",),
            sources.plans.refusals.read,
        ),
        Metric(
            "stagegate_stage3_denials_total",
            Kind.COUNTER,
            "Denials in the log, by gate and precise reason.",
            ("gate", "reason"),
            sources.events.denials.read,
        ),
        Metric(
            "stagegate_stage3_denials_suppressed_total",
            Kind.COUNTER,
            "Denials that were answered and not recorded one by one: their caller's budget is "
            "spent.",
            (),
            lambda: {(): sources.suppressed()},
        ),
        Metric(
            "stagegate_stage3_steps_total",
            Kind.COUNTER,
            "Steps that ended, by what the log says of them.",
            ("domain", "method", "result"),
            sources.events.steps.read,
        ),
        Metric(
            "stagegate_stage3_step_duration_seconds",
            Kind.HISTOGRAM,
            "How long a call of a domain took, whatever came of it.",
            ("domain", "method"),
            sources.durations.read,
        ),
        Metric(
            "stagegate_stage3_steps_in_doubt_total",
            Kind.COUNTER,
            "Steps whose effect nobody knows, those that recovery closed included.",
            (),
            sources.events.in_doubt.read,
        ),
        Metric(
            "stagegate_stage3_calls_abandoned",
            Kind.GAUGE,
            "Calls of domains in this process that were left behind and still run.",
            ("domain",),
            lambda: {(name,): count for name, count in sources.abandoned().items()},
        ),
        halt_metric("stagegate_stage3_halted", HALT_REASONS, sources.halt_reasons),
        Metric(
            "stagegate_stage3_plans_recovered",
            Kind.GAUGE,
            "Plans that the last start found open and closed as in doubt.",
            (),
            lambda: {(): sources.recovered_plans},
        ),
    ]
