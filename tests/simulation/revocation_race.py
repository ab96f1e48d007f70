"""Race one revocation against one plan, again and again, and look at what the log says of it.

`DecidesFirst` is the protection taken away: it decides in one turn and writes in the next, as code
does that asks its gates outside of the transaction that records the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from stage3_service.audit.journal import JournalStore, Snapshot, Writes
from stage3_service.tokens.issue import IssueRequest
from tests.simulation.gates_model import Plan, PlanStep, Submission, Told
from tests.simulation.stage3_world import Stage3World

T = TypeVar("T")

CALLER = "spiffe://stagegate.test/client/cli"
PLAN = Plan("ada", "manual", (PlanStep("trial", "effect"),) * 2)
# How many turns of the log the revocation lets pass first: from before the plan to after it.
MOST_TURNS = 6
# A fresh store after so many attempts keeps it small.
ATTEMPTS_OF_A_STORE = 20_000


class DecidesFirst:
    """A `JournalStore` that decides, and later writes what it decided. For plans only."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        """Decide in one turn, write in the next; what operators do is done at once."""
        if urgent:
            return self._store.commit(work, urgent=True)
        decided = self._store.commit(lambda snapshot: Writes(work(snapshot)), urgent=False)
        return self._store.commit(lambda _snapshot: decided.answer, urgent=False)


class Race:
    """One store, a thread for the plan and one for the operator."""

    def __init__(self, wrap: Callable[[JournalStore], JournalStore] = lambda store: store) -> None:
        self._world = Stage3World(wrap)
        self._pool = ThreadPoolExecutor(1)
        self._barrier = Barrier(2)
        self._seen = 0
        self.attempts = 0
        self.failures = 0
        # How each plan ended: the race is one only if the revocation meets all of them.
        self.ends: Counter[str] = Counter()

    def attempt(self) -> None:
        """Submit a plan and revoke its token meanwhile; count a start after the revocation."""
        world, number = self._world, self.attempts
        credential, token_id = world.issue(
            IssueRequest(
                user_id="ada",
                capability="race",
                domain_scope=("trial",),
                method_scope=(("trial", ("effect",)),),
                allowed_trigger_types=("manual",),
                lifetime_s=600,
                max_invocations=None,
                max_frequency=None,
                max_response_bytes=None,
                max_total_response_bytes=None,
                client_identities=(CALLER,),
                bearer=False,
                plan_digest=None,
            )
        )

        def execute() -> Told:
            self._barrier.wait()
            return world.submit(
                Submission(PLAN, credential, CALLER, f"request-{number}", f"plan-{number}")
            )

        plan = self._pool.submit(execute)
        self._barrier.wait()
        for _ in range(number % MOST_TURNS):
            world.journal.record(lambda _snapshot: Writes(None))
        world.revoke(token_id)
        told = plan.result()
        self.ends[f"{told.kind} with effects {told.effects}"] += 1
        self.attempts += 1
        self.failures += self._started_after_revocation()

    def _started_after_revocation(self) -> bool:
        events = [event for _, event in self._world.events_from(self._seen)]
        self._seen += len(events)
        types = [event["event_type"] for event in events]
        return "EXECUTION_STARTED" in types[types.index("TOKEN_REVOKED") :]

    def close(self) -> None:
        """End the threads and remove the store."""
        self._pool.shutdown()
        self._world.close()


def run_protected(attempts: int) -> tuple[int, Counter[str]]:
    """Return how often a start followed the revocation, and how the plans ended."""
    failures, ends = 0, Counter[str]()
    while attempts:
        race = Race()
        of_this_store = min(attempts, ATTEMPTS_OF_A_STORE)
        for _ in range(of_this_store):
            race.attempt()
        race.close()
        attempts -= of_this_store
        failures += race.failures
        ends += race.ends
    return failures, ends


def run_unprotected(failures: int, *, at_most: int) -> Race:
    """Return the race without the protection once it failed so often, or gave up."""
    race = Race(DecidesFirst)
    while race.failures < failures and race.attempts < at_most:
        race.attempt()
    race.close()
    return race
