"""Many clients that submit few requests again and again, and what they were told."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import grpc
from stagegate.error.v1.plan_outcome_pb2 import EFFECTS_SOME, PlanOutcome
from stagegate.stage4.v1 import plan_service_pb2, plan_service_pb2_grpc

from servicekit.serving.client_errors import decode_rpc_error
from tests.harness.pair import plan_document
from tests.harness.pki import pki
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCOPE: Mapping[str, tuple[str, ...]] = {"trial": ("effect", "slow")}
# Long enough that some submissions find the first one running.
STEPS = (step("trial", "effect"), step("trial", "slow", seconds=0.2))
OTHER_STEPS = (step("trial", "effect"), step("trial", "slow", seconds=0.1))
PATIENCE_S = 60.0
SHORT_PATIENCE_S = 0.05

IN_DOUBT = "STEP_IN_DOUBT"
STORED = (IN_DOUBT, "CLIENT_CANCELLED", "DEADLINE", "PLAN_HALTED")
"""How an admitted plan ends if it does not complete; from then on its request answers that."""


@dataclass(slots=True)
class Told:
    """Collect what clients were told: how often which answer, and which outcomes of each request.

    `asked` counts answers, so that whoever disturbs the services knows how far the load is.
    """

    answers: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, set[object]] = field(default_factory=lambda: defaultdict(set))
    ended: set[str] = field(default_factory=set)
    asked: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, answer: str, request_id: str, outcome: object = None) -> None:
        """Add one answer, and the outcome that it told."""
        with self._changed:
            self.answers[answer] += 1
            self.asked += 1
            if outcome is not None:
                self.outcomes[request_id].add(outcome)
                self.ended.add(request_id)
            self._changed.notify_all()

    def wait_for(self, asked: int, patience_s: float) -> bool:
        """Return once so many were answered, or say that they were not."""
        with self._changed:
            return self._changed.wait_for(lambda: self.asked >= asked, patience_s)


@dataclass(frozen=True, slots=True)
class Load:
    """Say who submits what: `submissions` of `requests` requests by `clients` clients.

    `impatient` is the share of calls whose client gives up almost at once; `impostors` the share
    that comes, once a request has ended, with another token or another plan under its identifier.
    """

    submissions: int
    requests: int
    clients: int
    impatient: float = 0.0
    impostors: float = 0.0
    seed: int = 1

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Return the identifiers, the same for the same load."""
        return tuple(f"storm-{self.seed}-{number}" for number in range(self.requests))


def submit_all(
    load: Load,
    address: str,
    token: str,
    other_token: str,
    meanwhile: Callable[[Told], None] = lambda _told: None,
) -> Told:
    """Submit the load over connections of each client's own; return when all were answered."""
    told = Told()
    numbers = iter(range(load.submissions))
    taking = threading.Lock()
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            with pki().channel("cli", address, "stage4") as channel:
                stub = plan_service_pb2_grpc.PlanServiceStub(channel)
                random = Random(load.seed * 1000 + number)  # noqa: S311 - no secret
                while True:
                    with taking:
                        if next(numbers, None) is None:
                            return
                    _submit(stub, told, load, random, token, other_token)
        except BaseException as error:
            failures.append(error)
            raise

    clients = [threading.Thread(target=client, args=(n,)) for n in range(load.clients)]
    for thread in clients:
        thread.start()
    try:
        meanwhile(told)
    finally:
        for thread in clients:
            thread.join()
    assert not failures, failures
    return told


def _submit(
    stub: plan_service_pb2_grpc.PlanServiceStub,
    told: Told,
    load: Load,
    random: Random,
    token: str,
    other_token: str,
) -> None:
    request_id = random.choice(load.request_ids)
    credential, steps, expected = token, STEPS, ""
    if random.random() < load.impostors and request_id in told.ended:
        if random.random() < 0.5:
            credential, expected = other_token, "TOKEN_NOT_ACCEPTED"
        else:
            steps, expected = OTHER_STEPS, "REQUEST_ID_REUSED"
    short = random.random() < load.impatient
    answer, outcome = _ask(
        stub,
        json.dumps(plan_document(credential, *steps)).encode(),
        request_id,
        SHORT_PATIENCE_S if short else PATIENCE_S,
    )
    if not expected:
        told.note(answer, request_id, outcome)
        return
    # An impostor is told what it is, or nothing at all: never an outcome that is not its own.
    assert outcome is None, (expected, answer)
    told.note(answer, request_id)


def _ask(
    stub: plan_service_pb2_grpc.PlanServiceStub, plan: bytes, request_id: str, patience_s: float
) -> tuple[str, object]:
    """Return the answer's name, and the outcome if it told one."""
    request = plan_service_pb2.ExecutePlanRequest(plan_json=plan, request_id=request_id)
    try:
        # Waits for a connection while Stage-4 is away: else a dead service would use up the load.
        response = stub.ExecutePlan(request, timeout=patience_s, wait_for_ready=True)
    except grpc.RpcError as error:
        told = decode_rpc_error(error)
        answer = told.reason or f"no answer ({told.code})"
        said = told.unpack(PlanOutcome) or PlanOutcome()
        # Stage-4 has some of these reasons for what it did not even send.
        is_stored = said.original_plan_id or said.effects == EFFECTS_SOME or answer == IN_DOUBT
        return answer, (answer, told.message) if answer in STORED and is_stored else None
    return "completed", bytes(response.result_json)
