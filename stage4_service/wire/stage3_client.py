"""The only line that leaves the house: one plan, one call, one attempt.

Everything that can happen to the call becomes either an outcome that Stage-3 reported, or the
certainty that nothing was sent, or the admission that nobody knows. In doubt it is the last.
Deliberately absent: retries, and a second way to Stage-3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from stagegate.stage3.v1.plan_execution_service_pb2 import (
    ExecuteMultiDomainPlanRequest,
    ExecuteMultiDomainPlanResponse,
)
from stagegate.stage3.v1.plan_execution_service_pb2_grpc import PlanExecutionServiceStub

from servicekit.computing import elsewhere
from servicekit.serving.client_errors import ClientError, decode_rpc_error
from servicekit.serving.connection import Connection, Connections
from stage4_service.errors import Effects, Reason
from stage4_service.stage3_port import Ending, Stage3Completion, Stage3Failure
from stage4_service.wire.codec import decode_effects, encode_bindings, encode_steps
from stage4_service.wire.status import ERROR_DOMAIN

# What of the client's time is kept for recording the outcome and answering.
MARGIN_S: Final = 0.250
# gRPC's words for a call that found no connection and was never put on one. Any other words, in
# another version too, mean that bytes may have left.
_NEVER_SENT: Final = "failed to connect to all addresses"
# Stage-3 answers non-OK before admission only, except where it lost track of what happened.
_EFFECTS_NOT_KNOWN: Final = frozenset(
    {Reason.OUTCOME_UNKNOWN, Reason.OUTCOME_UNRECORDED, Reason.INTERNAL, Reason.LOG_CORRUPT}
)
# Nothing happened now; but the request was admitted before, and what came of that is not said.
_EXECUTED_BEFORE: Final = frozenset({Reason.REQUEST_IN_PROGRESS, Reason.REQUEST_ID_EXPIRED})
# Said by Stage-3's door, which sees no caller but Stage-4: they are about Stage-4's certificate.
_OF_OUR_OWN_IDENTITY: Final = frozenset(
    {Reason.CLIENT_UNAUTHENTICATED, Reason.METHOD_NOT_PERMITTED}
)
_ENDINGS: Final = {
    "failed": Ending.FAILED,
    "denied": Ending.DENIED,
    "in_doubt": Ending.IN_DOUBT,
    "aborted": Ending.ABORTED,
}


@dataclass(frozen=True, slots=True)
class CallersPatience:
    """How the client's own call stands: time left in seconds, whether it is there, its leaving."""

    remaining_s: Callable[[], float]
    is_waiting: Callable[[], bool]
    # Calls the function when the client's call has ended; False if it has ended already.
    on_end: Callable[[Callable[[], None]], bool]


class Stage3Client:
    """The way to Stage-3, made once for the life of the service."""

    def __init__(self, connections: Connections, *, connect_timeout_s: float) -> None:
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._stub: tuple[Connection, PlanExecutionServiceStub] | None = None

    def send(
        self, request: ExecuteMultiDomainPlanRequest, patience: CallersPatience
    ) -> ExecuteMultiDomainPlanResponse:
        """Send the request once and return the response.

        Raises: Stage3Failure.
        """
        with self._connections.using() as connection:
            return self._send_on(connection, request, patience)

    def _send_on(
        self,
        connection: Connection,
        request: ExecuteMultiDomainPlanRequest,
        patience: CallersPatience,
    ) -> ExecuteMultiDomainPlanResponse:
        _verify_waiting(patience)
        connect_s = min(self._connect_timeout_s, patience.remaining_s() - MARGIN_S)
        if connect_s <= 0:
            raise _not_sent(Reason.DEADLINE_EXCEEDED, "no time is left; nothing was sent")
        if not connection.wait_until_ready(connect_s):
            raise _not_sent(Reason.STAGE3_UNREACHABLE, "Stage-3 is unreachable; nothing happened")
        # The wait may have been long enough for the client to leave.
        _verify_waiting(patience)
        timeout_s = patience.remaining_s() - MARGIN_S
        if timeout_s <= 0:
            raise _not_sent(Reason.DEADLINE_EXCEEDED, "no time is left; nothing was sent")
        call = self._stub_of(connection).ExecuteMultiDomainPlan.future(request, timeout=timeout_s)

        # From here on bytes may have left. A client that leaves takes the call along; Stage-3 stops
        # before the next step.
        def cancel() -> None:
            call.cancel()

        if not patience.on_end(cancel):
            cancel()
        try:
            with elsewhere():
                return call.result()
        except grpc.FutureCancelledError:
            raise _unknown("the client left before the answer arrived") from None
        except grpc.RpcError as error:
            raise _failure(decode_rpc_error(error), connection) from None

    def _stub_of(self, connection: Connection) -> PlanExecutionServiceStub:
        """Return the stub on this connection; most calls find it made."""
        made = self._stub
        if made is None or made[0] is not connection:
            made = self._stub = (connection, PlanExecutionServiceStub(connection.channel))
        return made[1]


class Stage3Call:
    """A `Stage3Port` for one submission: it carries what surrounds the plan document."""

    def __init__(
        self,
        client: Stage3Client,
        patience: CallersPatience,
        *,
        plan_id: str,
        request_id: str,
        caller: str,
        plan_digest: bytes,
        parameters_json: tuple[bytes, ...],
    ) -> None:
        self._client = client
        self._patience = patience
        self._plan_id = plan_id
        self._request_id = request_id
        self._caller = caller
        self._plan_digest = plan_digest
        self._parameters_json = parameters_json

    def execute_multi_domain_plan(
        self,
        *,
        user_id: str,
        token_hash: str,
        trigger_type: str,
        steps: list[Any],
        data_bindings: list[Any] | None,
    ) -> Stage3Completion:
        """Submit the plan once and return its result.

        Raises: Stage3Failure.
        """
        request = ExecuteMultiDomainPlanRequest(
            user_id=user_id,
            token_hash=token_hash,
            trigger_type=trigger_type,
            steps=encode_steps(steps, self._parameters_json),
            data_bindings=encode_bindings(data_bindings),
            plan_id=self._plan_id,
            request_id=self._request_id,
            caller=self._caller,
            plan_digest=self._plan_digest,
            data_bindings_declared=data_bindings is not None,
        )
        return self._read(self._client.send(request, self._patience))

    def _read(self, response: ExecuteMultiDomainPlanResponse) -> Stage3Completion:
        is_ours = response.replay or response.plan_id == self._plan_id
        if response.request_id != self._request_id or not is_ours:
            raise _unknown("Stage-3 answered for another plan")
        match response.WhichOneof("outcome"):
            case "completed":
                return Stage3Completion(
                    response.completed.result_json,
                    response.receipt,
                    replay=response.replay,
                    executed_plan_id=response.plan_id,
                )
            case "failed" | "denied" | "in_doubt" | "aborted" as ending:
                outcome = getattr(response, ending)
                raise Stage3Failure(
                    _reason(outcome.reason),
                    outcome.message,
                    ending=_ENDINGS[ending],
                    effects=decode_effects(outcome.effects),
                    step=outcome.step,
                    replay=response.replay,
                    executed_plan_id=response.plan_id,
                    receipt=response.receipt,
                )
            case _:
                raise _unknown("Stage-3 answered without an outcome")


def _failure(error: ClientError, connection: Connection) -> Stage3Failure:
    if error.domain == ERROR_DOMAIN:
        return _stage3_said(error)
    if error.reason == Reason.OVERLOADED:
        # Said by gRPC in Stage-3's place, before any code of Stage-3 ran.
        return _not_sent(Reason.OVERLOADED, error.message)
    if error.code == grpc.StatusCode.UNAVAILABLE.name and error.message.startswith(_NEVER_SENT):
        return _not_sent(Reason.STAGE3_UNREACHABLE, "Stage-3 is unreachable; nothing happened")
    if error.code == grpc.StatusCode.DEADLINE_EXCEEDED.name and connection.is_ready:
        return Stage3Failure(
            Reason.OUTCOME_PENDING,
            "the plan was still running when the time was up; "
            "resubmit it with the same request_id to learn its outcome",
            ending=Ending.UNKNOWN,
            effects=Effects.UNKNOWN,
        )
    return _unknown("the answer of Stage-3 was lost")


def _stage3_said(error: ClientError) -> Stage3Failure:
    reason = _reason(error.reason)
    if reason in _OF_OUR_OWN_IDENTITY:
        # Passed on, it would send the client after a certificate of its own that is good.
        return _not_sent(
            Reason.STAGE3_UNREACHABLE,
            f"Stage-3 does not accept the certificate that Stage-4 calls with ({reason.value}); "
            "nothing happened. Whoever operates Stage-4 replaces the files of `stage3.tls`",
        )
    if reason in _EFFECTS_NOT_KNOWN:
        return Stage3Failure(reason, error.message, ending=Ending.UNKNOWN, effects=Effects.UNKNOWN)
    executed_before = reason in _EXECUTED_BEFORE
    return Stage3Failure(
        reason,
        error.message,
        ending=Ending.REFUSED,
        effects=Effects.UNKNOWN if executed_before else Effects.NONE,
        violations=error.violations,
    )


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.INTERNAL


def _verify_waiting(patience: CallersPatience) -> None:
    if not patience.is_waiting():
        raise _not_sent(Reason.CLIENT_CANCELLED, "the client is gone; nothing was sent")


def _not_sent(reason: Reason, message: str) -> Stage3Failure:
    """Return the failure of a call that no plan came of."""
    return Stage3Failure(reason, message, ending=Ending.REFUSED, effects=Effects.NONE)


def _unknown(message: str) -> Stage3Failure:
    return Stage3Failure(
        Reason.OUTCOME_UNKNOWN,
        f"{message}; resubmit the plan with the same request_id to learn its outcome",
        ending=Ending.UNKNOWN,
        effects=Effects.UNKNOWN,
    )
