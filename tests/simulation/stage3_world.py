"""A real Stage-3 executor over a real ledger, without the wire, driven from one thread.

What happens while a step runs happens inside the domain's call: a revocation, a halt, time that
passes, another plan. So every interleaving that a test asks for is the one it gets.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from servicekit.store.key_ring import KEY_BYTES, KeyRing
from servicekit.store.ledger import Ledger
from servicekit.tlog.tree import Frontier, leaf_hash
from stage3_service.adapters.direct_call import DirectCall
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.audit.journal import Journal
from stage3_service.authorization.denial_budget import DenialAllowance, DenialBudget
from stage3_service.domains.declaration import (
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    Repetition,
)
from stage3_service.errors import Refusal
from stage3_service.execution import halt, token_operations
from stage3_service.execution.execute_plan import PlanExecutor
from stage3_service.execution.house import House
from stage3_service.execution.late_answers import LateAnswers
from stage3_service.execution.serving import Served
from stage3_service.execution.submission import Submission as Submitted
from stage3_service.plan.parse import RawBinding, RawPlan, RawStep
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.schema import SCHEMA
from stage3_service.store.sqlite_journal import SqliteJournalStore
from stage3_service.store.state_check import state_problem
from stage3_service.store.token_rows import TokenRows
from stage3_service.tokens.credential import credential_key
from stage3_service.tokens.issue import IssuePolicy, IssueRequest, issue_token
from stage4_service.execution_plan import Stage4ExecutionPlan
from stage4_service.plan_digest import plan_digest
from tests.fakes.domains import TrialDomain, trial_declaration
from tests.fakes.manual_clock import ManualClock
from tests.simulation.gates_model import METHOD_MAX_BYTES, PLAN_MAX_BYTES, Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from servicekit.store.ledger import TreeHead
    from stage3_service.audit.journal import JournalStore
    from stage3_service.domains.port import Answer, Invocation
    from tests.simulation.gates_model import Plan, Submission

# What the disk keeps is asked elsewhere; here are thousands of commits, and no power cut.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
STRICT_SCHEMA = b'{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}'


class Eventful:
    """A domain during whose calls something else may happen first."""

    def __init__(self, domain: TrialDomain) -> None:
        self.domain = domain
        self.during: dict[str, Callable[[], None]] = {}

    def invoke(self, invocation: Invocation) -> Answer:
        """Let happen what was announced for this very step, then behave as the method's name."""
        self.during.pop(invocation.idempotency_key, lambda: None)()
        return self.domain.invoke(invocation)


class ClientCall:
    """How the client's call stands, as a test decides."""

    def __init__(self, *, time_left: bool) -> None:
        self.left_s = 60.0 if time_left else 0.0
        self.gone = False

    def time_left_s(self) -> float:
        """Return the seconds until the client stops waiting."""
        return self.left_s

    def cancelled(self) -> bool:
        """Return whether the client gave up."""
        return self.gone


class Stage3World:
    """One store, one executor, one clock. `wrap` may stand between journal and store."""

    def __init__(self, wrap: Callable[[JournalStore], JournalStore] = lambda store: store) -> None:
        self.clock = ManualClock()
        memory = MEMORY if MEMORY.is_dir() else None
        self._directory = Path(mkdtemp(prefix="stagegate-gates-", dir=memory))
        store = self._directory / "log.sqlite3"
        Ledger.create(store, SCHEMA, now_us=self.clock.now_us())
        self.ledger = Ledger.open(store, SCHEMA, clock=self.clock, commit_timeout_s=60.0)
        ring = KeyRing([bytes(KEY_BYTES)], self.entropy)
        self.journal = Journal(wrap(SqliteJournalStore(self.ledger, TokenRows(), PlanRows(ring))))
        self.trial = TrialDomain()
        self.eventful = Eventful(self.trial)
        self._numbers = count(1)
        self.sealed: list[Exception] = []
        self.happen: Callable[[Any], None] = lambda _what: None
        declarations = (trial_declaration(), _strict_declaration())
        self.late = LateAnswers(self.journal, self.entropy)
        self.executor = PlanExecutor(
            journal=self.journal,
            serving=Served(
                House(
                    Catalogue(declarations),
                    ordinary_lifetime_s=1800,
                    max_plan_response_bytes=PLAN_MAX_BYTES,
                ),
                {
                    declared.name: DirectCall(declared, self.eventful, on_raised=lambda _: None)
                    for declared in declarations
                },
            ),
            budget=DenialBudget(DenialAllowance(burst=1_000_000, per_second=0)),
            late=self.late,
            entropy=self.entropy,
            seal=self.sealed.append,
        )

    def entropy(self, size: int) -> bytes:
        """Return bytes that differ each time and are the same in every run."""
        return next(self._numbers).to_bytes(8, "big").rjust(size, b"\x5a")

    def issue(self, request: IssueRequest) -> tuple[str, str]:
        """Issue a token; return its credential and its public reference."""
        issued = token_operations.issue(
            self.journal,
            lambda now: issue_token(
                request,
                issued_by="oona",
                now=now,
                credential_entropy=self.entropy(32),
                id_entropy=self.entropy(16),
                policy=IssuePolicy(),
            ),
            salt=self.entropy(32),
        )
        return issued.credential, issued.token.token_id

    def revoke(self, token_id: str) -> None:
        """Revoke a token."""
        token_operations.revoke(self.journal, token_id, revoked_by="oona", reason="model")

    def halt(self, *, halted: bool) -> None:
        """Halt the service, or resume it."""
        if halted:
            halt.halt(self.journal, halted_by="oona", reason="model")
        else:
            halt.resume(self.journal, resumed_by="oona", reason="model")

    def submit(self, sub: Submission) -> Told:
        """Execute a plan, and return what its client is told."""
        call = ClientCall(time_left=sub.time_left)
        for index, happening in enumerate(sub.during):
            if happening is not None:
                self.eventful.during[f"{sub.plan_id}/{index}"] = self._happening(happening, call)
        try:
            answer = self.executor.execute(submitted(sub), call)
        except Refusal as refusal:
            return Told("refused", refusal.reason.value)
        finally:
            self.eventful.during = {
                key: happening
                for key, happening in self.eventful.during.items()
                if not key.startswith(f"{sub.plan_id}/")
            }
        outcome = answer.outcome
        return Told(
            outcome.kind.value, outcome.reason, outcome.step, outcome.effects.value, answer.replay
        )

    def _happening(self, what: Any, call: ClientCall) -> Callable[[], None]:
        def happen() -> None:
            if what == "cancel":
                call.gone = True
            elif what == "timeout":
                call.left_s = 0.0
            else:
                self.happen(what)

        return happen

    def events_from(self, seq: int) -> list[tuple[bytes, dict[str, Any]]]:
        """Return the leaves from a position on, and the events that they spell."""
        rows = self.ledger.read(
            lambda reader: reader.rows(
                "SELECT leaf FROM events WHERE seq >= ? ORDER BY seq", (seq,)
            )
        )
        return [(bytes(leaf), json.loads(bytes(leaf))) for (leaf,) in rows]  # type: ignore[arg-type]

    def head(self) -> TreeHead:
        """Return the published size and root."""
        return self.ledger.head

    def contradiction(self) -> str | None:
        """Return where the tables that the gates read differ from the log, or None."""
        return self.ledger.read(state_problem)

    def close(self) -> None:
        """Close the store and remove it."""
        self.ledger.close()
        shutil.rmtree(self._directory)


def grown(frontier: Frontier, leaves: list[bytes]) -> Frontier:
    """Return the tree over these leaves too."""
    for leaf in leaves:
        frontier = frontier.append(leaf_hash(leaf))
    return frontier


def spelled(event: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the model says of an event."""
    instant = datetime.fromisoformat(event["timestamp"])
    return (
        *(event["event_type"], event["status"], event["user_id"], event["token_id"]),
        *(event["plan_id"], event["step"], event["domain"], event["method"], event["reason"]),
        event["additional_data"].get("terminal", False),
        round(instant.timestamp() * 1_000_000),
    )


def binding_of(plan: Plan) -> dict[str, Any] | None:
    """Return the plan's one binding."""
    if plan.bound_path is None:
        return None
    return {
        "source_step": 0,
        "source_path": plan.bound_path,
        "target_step": len(plan.steps) - 1,
        "target_path": "n",
    }


def digest_of(plan: Plan) -> bytes:
    """Return the digest as Stage-4 computes it."""
    binding = binding_of(plan)
    document: dict[str, Any] = {
        "user_id": plan.user_id,
        "token_hash": "x",
        "trigger_type": plan.trigger_type,
        "steps": [
            {
                "domain": step.domain,
                "method": step.method,
                "parameters": json.loads(step.parameters_json),
            }
            for step in plan.steps
        ],
        **({} if binding is None else {"data_bindings": [binding]}),
    }
    return plan_digest(Stage4ExecutionPlan(**document))


def submitted(sub: Submission) -> Submitted:
    """Return a submission as the executor takes it."""
    binding = binding_of(sub.plan)
    return Submitted(
        plan=RawPlan(
            user_id=sub.plan.user_id,
            token_hash=sub.credential,
            trigger_type=sub.plan.trigger_type,
            steps=tuple(
                RawStep(step.domain, step.method, step.parameters_json.encode())
                for step in sub.plan.steps
            ),
            bindings=None if binding is None else (RawBinding(**binding),),
        ),
        token_key=credential_key(sub.credential),
        plan_id=sub.plan_id,
        request_id=sub.request_id,
        caller=sub.caller,
        claimed_digest=digest_of(sub.plan),
    )


def _strict_declaration() -> DomainDeclaration:
    method = MethodDeclaration(
        name="echo",
        description="Answers the parameters, which need an integer n.",
        max_duration_s=5.0,
        max_response_bytes=METHOD_MAX_BYTES,
        repetition=Repetition.IDEMPOTENT,
        parameters_schema_json=STRICT_SCHEMA,
        validator=compile_schema(STRICT_SCHEMA),
    )
    return DomainDeclaration("strict", "trial", None, {"echo": method})
