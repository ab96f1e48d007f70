"""Both services in one process and on one thread, with everything between them that can break.

Stage-4's real servicer, orchestrator, store and client; Stage-3's real servicer, executor, store
and recovery; protobuf between them. Ours are the clock, the entropy, the disk, the domain and the
wire. Deliberately absent: threads, so that a crash happens exactly where it was announced.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import grpc
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage3.v1.plan_execution_service_pb2 import ExecuteMultiDomainPlanRequest
from stagegate.stage4.v1 import plan_service_pb2

from servicekit.serving.call_facts import CallFacts, record_facts
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.store.ledger import Ledger
from stage3_service.audit.journal import Journal
from stage3_service.domains.port import Output
from stage3_service.execution import halt, token_operations
from stage3_service.store.schema import SCHEMA
from stage3_service.store.state_check import state_problem
from stage3_service.tokens.issue import IssuePolicy, IssueRequest, issue_token
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.fakes.manual_clock import ManualClock
from tests.simulation.crash_disk import CrashDisk, Crashed, Files, Loss, files_of
from tests.simulation.pair_nodes import (
    STORE3,
    STORE4,
    EventfulDomain,
    Stage3Node,
    Stage4Node,
    Surroundings,
)
from tests.simulation.pair_wire import Aborted, Client, Context, Wire, WireError

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
PATIENCE_S = 60.0
TRUST_DOMAIN = "stagegate.test"


@dataclass(slots=True)
class Told:
    """What one submission's client was told: `reason` is empty for a completed plan."""

    caller: str
    plan_id: str
    request_id: str
    reason: str
    message: str
    effects: str
    executed_plan_id: str
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A plan as its client submits it, and submits it again."""

    caller: str
    document: bytes = field(repr=False)
    request_id: str


class PairWorld:
    """Two stores, two services, one clock, one domain, and one wire that loses answers."""

    def __init__(self, weaken: Callable[[Ledger], None] = lambda _ledger: None) -> None:
        self.clock = ManualClock()
        self.domain = EventfulDomain()
        self._around = Surroundings(self.clock, CrashDisk(), self.domain, count(1), weaken)
        self._wire = Wire(lambda: self.stage3 is not None, self.deliver)
        self.client = Client()
        self.loses_the_answer = False
        self.deaths = 0
        self._root = Path(
            mkdtemp(prefix="stagegate-pair-", dir=MEMORY if MEMORY.is_dir() else None)
        )
        first3, first4 = self._fresh_directory(), self._fresh_directory()
        Ledger.create(first3 / STORE3, SCHEMA, now_us=self.clock.now_us())
        SqliteJournal.create(first4 / STORE4, now_us=self.clock.now_us())
        self.stage3: Stage3Node | None = Stage3Node(self._around, first3)
        self.stage4 = Stage4Node(self._around, first4, self._wire)
        self._left3: Files = {}

    def _fresh_directory(self) -> Path:
        directory = self._root / f"{next(self._around.numbers)}"
        directory.mkdir()
        return directory

    # Crashes

    def bury_stage3(self) -> None:
        """Throw a dead Stage-3 away, and keep what it left."""
        node = self.stage3
        assert node is not None
        assert node.store.left is not None
        self._left3, self.stage3 = node.store.left, None
        self.deaths += 1
        self.domain.before.clear()
        self.domain.after.clear()
        node.close()

    def restart_stage3(self) -> None:
        """Start Stage-3 on what its predecessor left."""
        if self.stage3 is None:
            directory = self._restored(self._left3)
            # An answer that was owed to the dead process comes to nobody.
            self.domain.owed.clear()
            self.stage3 = Stage3Node(self._around, directory)

    def kill_stage3(self, loss: Loss) -> None:
        """Kill a Stage-3 that does nothing at the moment."""
        if self.stage3 is not None:
            self.stage3.store.die(loss)
            self.bury_stage3()

    def _replace_stage4(self, left: Files) -> None:
        self.deaths += 1
        self.stage4.close()
        self.stage4 = Stage4Node(self._around, self._restored(left), self._wire)

    def kill_stage4(self) -> None:
        """Kill a Stage-4 that does nothing at the moment, and start it again."""
        self._replace_stage4(files_of(self.stage4.directory, STORE4))

    def _restored(self, files: Files) -> Path:
        directory = self._fresh_directory()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        return directory

    # Operators

    @property
    def journal(self) -> Journal:
        """Return Stage-3's journal; it is started first if it is down."""
        self.restart_stage3()
        assert self.stage3 is not None
        return self.stage3.journal

    def issue(self, request: IssueRequest) -> tuple[str, str]:
        """Issue a token; return its credential and its public reference."""
        issued = token_operations.issue(
            self.journal,
            lambda now: issue_token(
                request,
                issued_by="oona",
                now=now,
                credential_entropy=self._around.entropy(32),
                id_entropy=self._around.entropy(16),
                policy=IssuePolicy(trust_domain=TRUST_DOMAIN),
            ),
            salt=self._around.entropy(32),
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

    def pay_late(self) -> None:
        """Let the oldest silent step take effect now, and its answer arrive."""
        if self.stage3 is not None and self.domain.owed:
            key = self.domain.owed.pop(0)
            self.domain.trial.effects.append(key)
            self.stage3.late.deliver(key, Output(b'{"late":true}'))

    # Clients

    def submit(self, request: Request) -> Told | None:
        """Submit a plan; None if the client was told nothing."""
        self.client = Client()
        client = self.client
        context: Any = Context(lambda: client.gone)
        identity = Identity(IdentityKind.CLIENT, request.caller.rpartition("/")[2], request.caller)
        self._establish(context, identity, PATIENCE_S)
        message = plan_service_pb2.ExecutePlanRequest(
            plan_json=request.document, request_id=request.request_id
        )
        try:
            answer = self.stage4.servicer.ExecutePlan(message, context)
        except Crashed:
            left = self.stage4.journal.left
            assert left is not None
            self._replace_stage4(left)
            return None
        except Aborted as aborted:
            told = _refused(request.caller, aborted)
        else:
            told = Told(
                request.caller,
                answer.plan_id,
                answer.request_id,
                "",
                "",
                "some",
                answer.original_plan_id or answer.plan_id,
                answer.result_json,
            )
        finally:
            self.domain.before.clear()
            self.domain.after.clear()
            self.stage4.journal.die_at = None
            self.loses_the_answer = False
            if self.stage3 is not None:
                self.stage3.store.forget()
        # Who left is told nothing, whatever is said.
        return None if client.gone else told

    def _establish(self, context: Any, identity: Identity, patience_s: float) -> None:
        deadline_s = self.clock.monotonic_s() + patience_s
        record_facts(
            context, CallFacts(identity, "/of/this/call", deadline_s, self.clock.monotonic_s)
        )

    def deliver(self, request: bytes) -> bytes:
        """Carry one request to Stage-3 and its answer back, if both arrive."""
        node, client = self.stage3, self.client
        if node is None:
            raise WireError(grpc.StatusCode.UNAVAILABLE, "connection reset")
        context: Any = Context(lambda: client.gone)
        identity = Identity(IdentityKind.STAGE4, "", f"spiffe://{TRUST_DOMAIN}/stage4")
        self._establish(context, identity, PATIENCE_S - 1)
        try:
            response = node.servicer.ExecuteMultiDomainPlan(
                ExecuteMultiDomainPlanRequest.FromString(request), context
            )
        except Aborted as aborted:
            if self.loses_the_answer:
                raise WireError(grpc.StatusCode.UNAVAILABLE, "socket closed") from None
            status = aborted.status
            raise WireError(status.code, status.details, status.trailing_metadata) from None
        except Crashed:
            self.bury_stage3()
            raise WireError(grpc.StatusCode.UNAVAILABLE, "socket closed") from None
        if client.gone:
            raise grpc.FutureCancelledError
        if self.loses_the_answer:
            raise WireError(grpc.StatusCode.UNAVAILABLE, "socket closed")
        return response.SerializeToString()

    # What can be read

    def stage3_leaves(self) -> list[bytes]:
        """Return Stage-3's log as it is stored."""
        assert self.stage3 is not None
        return _leaves_of(self.stage3.ledger)

    def stage4_leaves(self) -> list[bytes]:
        """Return Stage-4's log as it is stored."""
        return _leaves_of(self.stage4.log.ledger)

    def contradiction(self) -> str | None:
        """Return where Stage-3's tables differ from its log, or None."""
        assert self.stage3 is not None
        return self.stage3.ledger.read(state_problem)

    def close(self) -> None:
        """Close both stores and remove them."""
        if self.stage3 is not None:
            self.stage3.close()
        self.stage4.close()
        self._around.disk.close()
        shutil.rmtree(self._root)


def _leaves_of(ledger: Ledger) -> list[bytes]:
    rows = ledger.read(lambda reader: reader.rows("SELECT leaf FROM events ORDER BY seq"))
    return [bytes(leaf) for (leaf,) in rows]  # type: ignore[arg-type]


def _refused(caller: str, aborted: Aborted) -> Told:
    status = aborted.status
    error = decode_rpc_error(WireError(status.code, status.details, status.trailing_metadata))
    outcome = error.unpack(plan_outcome_pb2.PlanOutcome) or plan_outcome_pb2.PlanOutcome()
    name = plan_outcome_pb2.Effects.Name(outcome.effects).rpartition("_")[2].lower()
    return Told(
        caller,
        outcome.plan_id,
        outcome.request_id,
        error.reason,
        error.message,
        name,
        outcome.original_plan_id or outcome.plan_id,
    )
