"""A past for Stage-3: tokens issued and plans executed, by the service's own code, in bulk.

Every event, row and salt is what the service would have written. Only the barriers are left out:
thousands of decisions share one commit, so that a million events take a minute and not an hour.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from stagegate.plan.v1 import plan_pb2
from stagegate.stage3.v1.plan_execution_service_pb2 import ExecuteMultiDomainPlanRequest

from bench.work import STAGE3_EVENTS_A_PLAN
from servicekit.clock import SystemClock
from servicekit.settings import load_settings
from servicekit.store.key_ring_file import read_key_ring
from servicekit.store.ledger import Ledger, Turn
from stage3_service.adapters.declarations_file import read_declarations
from stage3_service.adapters.registry import open_domains
from stage3_service.audit.journal import Journal, Snapshot, Writes
from stage3_service.audit.outcome import OutcomeKind
from stage3_service.authorization.denial_budget import DenialAllowance, DenialBudget
from stage3_service.execution.execute_plan import PlanExecutor
from stage3_service.execution.house import House
from stage3_service.execution.late_answers import LateAnswers
from stage3_service.execution.serving import Served
from stage3_service.execution.submission import Submission
from stage3_service.execution.token_operations import issue
from stage3_service.plan.parse import parse_plan
from stage3_service.settings import STORE_FILE, Stage3Settings
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.schema import SCHEMA
from stage3_service.store.sqlite_journal import SqliteJournalStore
from stage3_service.store.token_rows import TokenRows
from stage3_service.tokens.issue import IssuedToken, IssuePolicy, IssueRequest, issue_token
from stage3_service.wire.codec import decode_submission

USER: Final = "operations"
_TOKENS_A_COMMIT: Final = 2_000
_PLANS_A_COMMIT: Final = 250
_COMMIT_TIMEOUT_S: Final = 600.0
_TOKEN_LIFE_S: Final = 1_800

T = TypeVar("T")


class _InTurn:
    """A journal's store inside a turn that somebody else has taken."""

    def __init__(self, store: SqliteJournalStore, turn: Turn) -> None:
        self._store = store
        self._turn = turn

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        """Decide now; durable with the turn."""
        del urgent
        return self._store.take_turn(work, self._turn)


class _Patient:
    """A client that waits."""

    def time_left_s(self) -> float:
        """Return some time."""
        return 60.0

    def cancelled(self) -> bool:
        """Say that it is still there."""
        return False


@dataclass(frozen=True, slots=True)
class Past:
    """An open store of Stage-3, and what is needed to go on writing it."""

    ledger: Ledger
    store: SqliteJournalStore
    settings: Stage3Settings
    _execute_in: Callable[[Journal], PlanExecutor]

    def issue(self, count: int) -> list[str]:
        """Issue so many tokens and return their credentials."""
        credentials: list[str] = []
        while len(credentials) < count:
            some = min(_TOKENS_A_COMMIT, count - len(credentials))
            credentials += self.ledger.commit(partial(self._issue, some))
        return credentials

    def _issue(self, count: int, turn: Turn) -> list[str]:
        journal = Journal(_InTurn(self.store, turn))
        return [
            issue(journal, self._make_token, salt=os.urandom(32)).credential for _ in range(count)
        ]

    def _make_token(self, now: datetime) -> IssuedToken:
        client = f"spiffe://{self.settings.trust_domain}/client/demo"
        return issue_token(
            IssueRequest(
                user_id=USER,
                capability="benchmark",
                domain_scope=("text",),
                method_scope=(("text", ("sha256",)),),
                allowed_trigger_types=("manual",),
                lifetime_s=_TOKEN_LIFE_S,
                client_identities=(client,),
            ),
            issued_by="bench",
            now=now,
            credential_entropy=os.urandom(32),
            id_entropy=os.urandom(16),
            policy=IssuePolicy(),
        )

    def execute(self, submissions: Sequence[Submission]) -> None:
        """Execute plans, thousands a commit."""
        for start in range(0, len(submissions), _PLANS_A_COMMIT):
            some = submissions[start : start + _PLANS_A_COMMIT]
            self.ledger.commit(partial(self._execute, some))

    def _execute(self, submissions: Sequence[Submission], turn: Turn) -> None:
        executor = self._execute_in(Journal(_InTurn(self.store, turn)))
        for submission in submissions:
            executor.execute(submission, _Patient())

    def execute_alone(self, executor: PlanExecutor, submission: Submission) -> None:
        """Execute one plan with every barrier.

        Raises:
            RuntimeError: it did not complete.
        """
        answer = executor.execute(submission, _Patient())
        if answer.outcome.kind is not OutcomeKind.COMPLETED:
            raise RuntimeError(f"a plan of the benchmark ended as {answer.outcome}")

    def executor(self) -> PlanExecutor:
        """Return an executor that keeps every barrier."""
        return self._execute_in(Journal(self.store))

    def submissions(self, credentials: Sequence[str], label: str, count: int) -> list[Submission]:
        """Return plans of three dependent steps, each under the next of the tokens."""
        return [
            self._submission(credentials[number % len(credentials)], f"{label}_{number:09d}")
            for number in range(count)
        ]

    def _submission(self, credential: str, name: str) -> Submission:
        request = ExecuteMultiDomainPlanRequest(
            user_id=USER,
            token_hash=credential,
            trigger_type="manual",
            steps=[
                plan_pb2.Step(domain="text", method="sha256", parameters_json=parameters)
                for parameters in (b'{"text":"%b"}' % name.encode(), b"{}", b"{}")
            ],
            data_bindings=[
                plan_pb2.DataBinding(
                    source_step=step,
                    source_path="sha256",
                    target_step=step + 1,
                    target_path="text",
                    expected_type="string",
                )
                for step in (0, 1)
            ],
            plan_id=f"plan_{name}",
            request_id=f"req_{name}",
            caller=f"spiffe://{self.settings.trust_domain}/client/demo",
            data_bindings_declared=True,
        )
        raw = decode_submission(request).plan
        request.plan_digest = parse_plan(raw, self.settings.limits.as_plan_limits()).digest
        return decode_submission(request)


@contextmanager
def open_past(config: Path) -> Iterator[Past]:
    """Open the store that a settings file of Stage-3 names, while nobody serves from it."""
    settings = load_settings(Stage3Settings, file=config, environ={}, env_prefix="STAGE3_")
    rows = TokenRows()
    ring = read_key_ring(settings.outcome_key_file, os.urandom)
    ledger = Ledger.open(
        settings.state_dir / STORE_FILE,
        SCHEMA,
        clock=SystemClock(),
        commit_timeout_s=_COMMIT_TIMEOUT_S,
    )
    domains = open_domains(
        read_declarations(settings.domains_file),
        settings.state_dir,
        on_late=lambda *_: None,
        on_raised=lambda _: None,
    )
    budget = DenialBudget(DenialAllowance())
    house = House(
        domains.catalogue, settings.tokens.max_lifetime_s, settings.limits.as_plan_limits()
    )

    def execute_in(journal: Journal) -> PlanExecutor:
        return PlanExecutor(
            journal=journal,
            serving=Served(house, domains.domains),
            budget=budget,
            late=LateAnswers(journal, os.urandom),
            entropy=os.urandom,
            seal=lambda _: None,
        )

    try:
        yield Past(ledger, SqliteJournalStore(ledger, rows, PlanRows(ring)), settings, execute_in)
    finally:
        domains.close()
        ledger.close()


def fill(past: Past, *, events: int, tokens: int) -> list[str]:
    """Issue so many tokens and write at least so many events in all; return the credentials."""
    credentials = past.issue(tokens)
    for number in count():
        # A token's first plan leaves one event more.
        missing = -(-(events - past.ledger.head.size) // (STAGE3_EVENTS_A_PLAN + 1))
        if missing <= 0:
            break
        some = min(_PLANS_A_COMMIT * 20, missing)
        past.execute(past.submissions(credentials, f"past{number}", some))
    return credentials
