"""One process of each service, as its world opens it, kills it, and opens it again.

Everything in a node is the service's own; what surrounds it is handed in. Deliberately absent:
sockets, threads of plans, and the choice of when to die.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servicekit.store.key_ring import KEY_BYTES, KeyRing
from servicekit.store.ledger import Ledger
from stage3_service.audit.journal import Journal
from stage3_service.authorization.denial_budget import DenialAllowance, DenialBudget
from stage3_service.domains.declaration import Catalogue
from stage3_service.domains.port import Answer, DomainSilent, Invocation
from stage3_service.execution import recover
from stage3_service.execution.execute_plan import PlanExecutor
from stage3_service.execution.house import House
from stage3_service.execution.late_answers import LateAnswers
from stage3_service.execution.outcome_key import adopt_outcome_key
from stage3_service.execution.serving import Served
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.schema import SCHEMA
from stage3_service.store.sqlite_journal import SqliteJournalStore
from stage3_service.store.token_rows import TokenRows
from stage3_service.wire.plan_servicer import PlanExecutionServicer
from stage3_service.wire.plan_tally import PlanTally as Stage3Tally
from stage4_service.audit import NewEvent, PlanEnded, PlanOpened, Stage4AuditEvent
from stage4_service.limits import PlanLimits
from stage4_service.refusal_budget import RefusalBudget
from stage4_service.store.sqlite_journal import SqliteJournal
from stage4_service.wire.plan_servicer import PlanServicer
from stage4_service.wire.plan_tally import PlanTally as Stage4Tally
from stage4_service.wire.refusals import Refusals
from stage4_service.wire.stage3_client import Stage3Client
from tests.fakes.domains import METHODS, TrialDomain, trial_declaration
from tests.fakes.manual_clock import ManualClock
from tests.harness.results import some_results
from tests.simulation.crash_disk import CrashDisk, Crashed, CrashingStore, Files, files_of

STORE3, STORE4 = "stage3.sqlite3", "stage4.sqlite3"


@dataclass(slots=True)
class Surroundings:
    """What every process of a world shares. `weaken` takes a protection from a fresh store."""

    clock: ManualClock
    disk: CrashDisk
    domain: EventfulDomain
    numbers: Iterator[int]
    weaken: Callable[[Ledger], None]

    def entropy(self, size: int) -> bytes:
        """Return bytes that differ each time and are the same in every run."""
        return next(self.numbers).to_bytes(8, "big").rjust(size, b"\x5a")


class EventfulDomain:
    """The trial domain. Before and after each of its steps something else may happen.

    A `silent` step leaves its effect and its answer for later: `owed` holds its key.
    """

    def __init__(self) -> None:
        self.trial = TrialDomain()
        self.before: dict[int, Callable[[], None]] = {}
        self.after: dict[int, Callable[[], None]] = {}
        self.owed: list[str] = []
        self.reached: list[str] = []

    def invoke(self, invocation: Invocation) -> Answer:
        """Behave as the method's name says."""
        key = invocation.idempotency_key
        step = int(key.rpartition("/")[2])
        self.before.pop(step, lambda: None)()
        if invocation.method == "silent":
            self.owed.append(key)
            raise DomainSilent("no answer yet")
        answer = METHODS[invocation.method](self.trial, invocation)
        self.after.pop(step, lambda: None)()
        return answer


class Stage3Node:
    """One process of Stage-3: opened on what the one before it left, recovered, serving."""

    def __init__(self, around: Surroundings, directory: Path) -> None:
        self.directory = directory
        disk = around.disk
        self.ledger = Ledger.open(
            directory / STORE3, SCHEMA, clock=around.clock, commit_timeout_s=60.0, vfs=disk.name
        )
        around.weaken(self.ledger)
        disk.begin(directory, STORE3)
        ring = KeyRing([bytes(KEY_BYTES)], around.entropy)
        self.store = CrashingStore(
            SqliteJournalStore(self.ledger, TokenRows(), PlanRows(ring)), disk, directory, STORE3
        )
        self.journal = Journal(self.store)
        adopt_outcome_key(self.journal, ring.current)
        recover.recover(self.journal)
        self.late = LateAnswers(self.journal, around.entropy)
        self.sealed: list[Exception] = []
        catalogue = Catalogue((trial_declaration(),))
        self.executor = PlanExecutor(
            journal=self.journal,
            serving=Served(House(catalogue, ordinary_lifetime_s=1800), {"trial": around.domain}),
            budget=DenialBudget(DenialAllowance(burst=1_000_000, per_second=0)),
            late=self.late,
            entropy=around.entropy,
            seal=self.sealed.append,
        )
        self.servicer = PlanExecutionServicer(self.executor, Stage3Tally())

    def close(self) -> None:
        """Throw the process away, and its files."""
        self.ledger.close()
        shutil.rmtree(self.directory)


class CrashingJournal:
    """Stage-4's journal, whose process dies before or after an announced record."""

    def __init__(self, journal: SqliteJournal, directory: Path) -> None:
        self._journal = journal
        self._directory = directory
        self.die_at: str | None = None
        self.left: Files | None = None

    def record(
        self,
        events: Any,
        *,
        opened: PlanOpened | None = None,
        ended: PlanEnded | None = None,
    ) -> tuple[Stage4AuditEvent, ...]:
        """Record, or die on the way."""
        which = "opened" if opened is not None else "ended"
        self._die_if(f"before {which}")
        recorded = self._write(events, opened, ended)
        self._die_if(f"after {which}")
        return recorded

    def _write(
        self, events: list[NewEvent], opened: PlanOpened | None, ended: PlanEnded | None
    ) -> tuple[Stage4AuditEvent, ...]:
        return self._journal.record(events, opened=opened, ended=ended)

    def _die_if(self, moment: str) -> None:
        if self.left is None and self.die_at == moment:
            self.left = files_of(self._directory, STORE4)
        if self.left is not None:
            raise Crashed

    def record_security(self, record: Any) -> None:
        """Record."""
        self._journal.record_security(record)

    def events(self) -> list[Stage4AuditEvent]:
        """Return the log."""
        return self._journal.events()


class Stage4Node:
    """One process of Stage-4."""

    def __init__(self, around: Surroundings, directory: Path, wire: Any) -> None:
        self.directory = directory
        self.log = SqliteJournal.open(
            directory / STORE4,
            clock=around.clock,
            commit_timeout_s=60.0,
            results=some_results(),
        )
        self.journal = CrashingJournal(self.log, directory)
        self.servicer = PlanServicer(
            journal=self.journal,
            records=self.log,
            stage3=Stage3Client(wire, connect_timeout_s=5.0),
            refusals=Refusals(
                self.journal,
                RefusalBudget(burst=1_000_000, per_second=0, monotonic_s=around.clock.monotonic_s),
            ),
            limits=PlanLimits(),
            ids=lambda: f"{next(around.numbers):08d}",
            tally=Stage4Tally(around.clock.monotonic_s),
        )

    def close(self) -> None:
        """Throw the process away, and its files."""
        self.log.close()
        shutil.rmtree(self.directory)
