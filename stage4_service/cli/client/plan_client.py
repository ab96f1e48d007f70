"""The client listener as a client sees it: calls in, plain documents out.

A plan is sent once, on a channel that was ready. What fails before is UNREACHABLE and harmless;
what is lost afterwards is OUTCOME_UNKNOWN, and the request identifier, which is always set, learns
it. Deliberately absent: retries.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2, plan_service_pb2_grpc

from servicekit.cli.connection import CALL_TIMEOUT_S, connected, reading_refusals
from servicekit.cli.failure import CommandFailed, refusal_of_service
from servicekit.cli.instant import now_utc
from servicekit.cli.profile import read_profile
from servicekit.process import ExitCode
from servicekit.serving.client_errors import ClientError, decode_rpc_error
from stage4_service.cli.advice import advice_for
from stage4_service.cli.client.message_documents import (
    Document,
    event_document,
    execution_document,
    outcome_facts,
    plan_document,
)
from stage4_service.cli.options import PROFILE_VARIABLE
from stage4_service.errors import Reason

SERVICE: Final = "stage4"
_PLANS_PER_PAGE: Final = 500
_EVENTS_PER_PAGE: Final = 1000


class PlanClient:
    """Call `PlanService`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = plan_service_pb2_grpc.PlanServiceStub(channel)

    def execute(self, plan_json: bytes, *, request_id: str, timeout_s: float) -> Document:
        """Submit a plan once; return its result.

        Raises:
            CommandFailed: it did not complete, or nobody knows; the facts tell which.
        """
        request = plan_service_pb2.ExecutePlanRequest(plan_json=plan_json, request_id=request_id)
        try:
            answer = self._stub.ExecutePlan(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _not_completed(decode_rpc_error(error), request_id) from None
        except KeyboardInterrupt:
            # Whoever stops waiting must still be able to ask what became of it.
            raise _lost("you stopped waiting", request_id) from None
        return execution_document(answer)

    def plan(self, plan_id: str) -> Document:
        """Return one plan."""
        request = plan_service_pb2.GetPlanRequest(plan_id=plan_id)
        with reading_refusals(SERVICE):
            return plan_document(self._stub.GetPlan(request, timeout=CALL_TIMEOUT_S).plan)

    def plans(self, most: int) -> list[Document]:
        """Return at most `most` plans, newest first."""
        found: list[Document] = []
        page_token = ""
        with reading_refusals(SERVICE):
            while len(found) < most:
                request = plan_service_pb2.ListPlansRequest(
                    page_size=min(most - len(found), _PLANS_PER_PAGE), page_token=page_token
                )
                page = self._stub.ListPlans(request, timeout=CALL_TIMEOUT_S)
                found += [plan_document(plan) for plan in page.plans]
                page_token = page.next_page_token
                if not page_token:
                    break
        return found

    def events(self, *, plan_id: str, most: int) -> list[Document]:
        """Return at most `most` entries of Stage-4's log, oldest first."""
        found: list[Document] = []
        page_token = ""
        with reading_refusals(SERVICE):
            while len(found) < most:
                request = plan_service_pb2.ListAuditEventsRequest(
                    page_size=min(most - len(found), _EVENTS_PER_PAGE),
                    page_token=page_token,
                    plan_id=plan_id,
                )
                page = self._stub.ListAuditEvents(request, timeout=CALL_TIMEOUT_S)
                found += [event_document(event) for event in page.events]
                page_token = page.next_page_token
                if not page_token:
                    break
        return found


@contextmanager
def plan_client(file: Path | None, address: str | None) -> Iterator[PlanClient]:
    """Connect as the profile says.

    Raises:
        CommandFailed: no profile, or nobody there.
        SettingsRefused, CredentialRefused, AddressRefused: the profile cannot be used.
    """
    profile = read_profile(
        file, service=SERVICE, variable=PROFILE_VARIABLE, environ=os.environ, address=address
    )
    with connected(profile, service=SERVICE, now=now_utc()) as channel:
        yield PlanClient(channel)


def _not_completed(error: ClientError, request_id: str) -> CommandFailed:
    if not error.reason:
        # The channel was ready, so bytes may have left: whatever came instead of an answer, it is
        # not known whether the plan was executed.
        return _lost(f"the answer was lost ({error.code})", request_id)
    outcome = error.unpack(plan_outcome_pb2.PlanOutcome)
    facts = {"request_id": request_id} if outcome is None else outcome_facts(outcome)
    return refusal_of_service(
        error,
        advice=advice_for(
            error.reason,
            request_id=str(facts["request_id"]),
            # Stage-3's log knows a replay under the identifier of its execution.
            plan_id=str(facts.get("original_plan_id") or facts.get("plan_id", "")),
            effects=str(facts.get("effects", "")),
            step=facts.get("step"),
        ),
        facts=facts,
    )


def _lost(what: str, request_id: str) -> CommandFailed:
    reason = Reason.OUTCOME_UNKNOWN.value
    return CommandFailed(
        ExitCode.REFUSED,
        reason,
        f"{what}; the plan may have been executed",
        advice_for(reason, request_id=request_id, plan_id="", effects="unknown"),
        facts={"request_id": request_id, "effects": "unknown"},
    )
