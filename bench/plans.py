"""Ours: plans of three dependent steps, executed by both services with every barrier durable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.durability import count_syncs
from bench.load import LoadClient, Round, Target, load_client
from bench.pair import RunningPair, running_pair
from bench.processes import cpu_seconds, pin, two_cpus
from bench.work import (
    COMMITS_A_PLAN,
    STAGE3_EVENTS_A_PLAN,
    STAGE4_EVENTS_A_PLAN,
    PlanWork,
    WrongAnswerError,
)
from servicekit.store.ledger import StoredEvent, verify_log

SYNC_COUNT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the plans of a run left behind; `syncs` is None where they could not be counted."""

    plans: int
    stage3_events: int
    stage4_events: int
    syncs_a_plan: float | None


@dataclass(frozen=True, slots=True)
class Effort:
    """Processor time that a plan cost each service, in milliseconds: steadier than any rate."""

    stage3_ms: float
    stage4_ms: float


class Plans:
    """The pair under load, and the evidence of every plan it answered."""

    def __init__(self, pair: RunningPair, client: LoadClient, directory: Path) -> None:
        self._pair = pair
        self._client = client
        self._directory = directory
        self._answered = 0
        self._efforts: dict[int, list[Effort]] = {}

    def run(self, concurrency: int, seconds: float, warm_up_s: float) -> Round:
        """Run one round, as the baseline does."""
        before = self._cpu_ms()
        measured = self._client.run(concurrency, seconds, warm_up_s)
        spent = [after - was for after, was in zip(self._cpu_ms(), before, strict=True)]
        self._answered += measured.answered
        effort = Effort(*(one / measured.answered for one in spent))
        self._efforts.setdefault(concurrency, []).append(effort)
        return measured

    def effort(self, concurrency: int) -> Effort:
        """Return the medians over the rounds with so many callers."""
        rounds = self._efforts[concurrency]
        return Effort(
            median(one.stage3_ms for one in rounds), median(one.stage4_ms for one in rounds)
        )

    def _cpu_ms(self) -> tuple[float, float]:
        pids = (self._pair.stage3_pid, self._pair.stage4_pid)
        return cpu_seconds(pids[0]) * 1e3, cpu_seconds(pids[1]) * 1e3

    def evidence(self) -> Evidence:
        """Verify both logs from the first event to the last, and count what a plan left.

        Raises:
            WrongAnswerError: a log is damaged, a plan left another number of events than it must,
                or was answered with fewer syncs than its barriers need.
        """
        syncs = self._syncs_a_plan()
        evidence = Evidence(
            plans=self._answered,
            stage3_events=_plan_events(self._pair.stage3_store),
            stage4_events=_plan_events(self._pair.stage4_store),
            syncs_a_plan=syncs,
        )
        if evidence.stage3_events != STAGE3_EVENTS_A_PLAN * evidence.plans:
            raise WrongAnswerError(f"Stage-3's log does not hold 16 events a plan: {evidence}")
        if evidence.stage4_events != STAGE4_EVENTS_A_PLAN * evidence.plans:
            raise WrongAnswerError(f"Stage-4's log does not hold 3 events a plan: {evidence}")
        if syncs is not None and syncs < COMMITS_A_PLAN:
            raise WrongAnswerError(f"a plan alone was answered with {syncs:.2f} syncs")
        return evidence

    def _syncs_a_plan(self) -> float | None:
        """Count syncs with one caller, where no plan can share another's commit."""
        total = 0.0
        for pid in (self._pair.stage3_pid, self._pair.stage4_pid):
            answered: list[int] = []
            watched = count_syncs(pid, self._directory, self._alone(answered))
            if watched is None:
                return None
            total += watched / answered[0]
        return total

    def _alone(self, answered: list[int]) -> Callable[[], None]:
        def run() -> None:
            answered.append(self.run(1, SYNC_COUNT_S, 0.0).answered)

        return run


@contextmanager
def measure_plans(directory: Path, *, pinned: bool) -> Iterator[Plans]:
    """Start the pair with new stores below `directory`, and give it ready for rounds."""
    with running_pair(directory) as pair:
        if pinned:
            outer, inner = two_cpus()
            pin(pair.stage4_pid, outer)
            pin(pair.stage3_pid, inner)
        target = Target(
            address=pair.stage4_address,
            server_name=pair.stage4_server_name,
            files=(
                str(pair.authority_file),
                str(pair.client_certificate_file),
                str(pair.client_key_file),
            ),
            work=PlanWork(user_id=pair.user_id, token_hash=pair.token_hash),
        )
        with load_client(target) as client:
            yield Plans(pair, client, directory)


def _plan_events(store: Path) -> int:
    counted = 0

    def count(event: StoredEvent) -> str | None:
        nonlocal counted
        counted += event.plan_id is not None
        return None

    verdict = verify_log(store, check=count)
    if verdict.problem is not None:
        raise WrongAnswerError(f"{store}: {verdict.problem}")
    return counted
