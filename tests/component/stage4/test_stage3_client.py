"""The one call: what is not sent, what a client that is gone means, and reasons nobody knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)
from grpc_status import rpc_status  # type: ignore[import-untyped]  # ships no types
from stagegate.stage3.v1.plan_execution_service_pb2 import ExecuteMultiDomainPlanRequest

from servicekit.serving.connection import Connection
from stage4_service.errors import Effects, Reason
from stage4_service.stage3_port import Ending, Stage3Failure
from stage4_service.wire.stage3_client import CallersPatience, Stage3Client
from tests.fakes.stage3_service import FakeStage3, completed
from tests.harness.pki import pki

REQUEST = ExecuteMultiDomainPlanRequest(plan_id="p", request_id="r")


@pytest.fixture
def client(stage3_address: str) -> Iterator[Stage3Client]:
    """Give a client of the fake."""
    connection = Connection(pki().channel("stage4", stage3_address, "stage3"))
    yield Stage3Client(connection, connect_timeout_s=5.0)
    connection.close()


def _patience(
    *remaining: float, waiting: tuple[bool, ...] = (True, True), leaving: bool = True
) -> CallersPatience:
    times, answers = iter(remaining), iter(waiting)
    return CallersPatience(lambda: next(times), lambda: next(answers), lambda _cancel: leaving)


def _failure(client: Stage3Client, patience: CallersPatience) -> Stage3Failure:
    with pytest.raises(Stage3Failure) as failed:
        client.send(REQUEST, patience)
    return failed.value


@pytest.mark.parametrize(
    ("patience", "reason"),
    [
        (_patience(10.0, waiting=(False,)), Reason.CLIENT_CANCELLED),
        (_patience(10.0, waiting=(True, False)), Reason.CLIENT_CANCELLED),
        (_patience(0.25), Reason.DEADLINE_EXCEEDED),
        (_patience(10.0, 0.25), Reason.DEADLINE_EXCEEDED),
    ],
)
def test_a_client_that_is_gone_or_out_of_time_sends_nothing(
    client: Stage3Client, fake: FakeStage3, patience: CallersPatience, reason: Reason
) -> None:
    """Expect a refusal without effects, before and after the wait for the connection."""
    failure = _failure(client, patience)
    assert (failure.reason, failure.ending) == (reason, Ending.REFUSED)
    assert failure.effects is Effects.NONE
    assert fake.received == []


def test_a_stage3_without_room_for_another_refusal_did_nothing(
    client: Stage3Client, fake: FakeStage3
) -> None:
    """Expect what gRPC says in Stage-3's place to be a refusal, and not an outcome nobody knows."""

    def answer(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")

    fake.script = answer
    failure = _failure(client, _patience(10.0, 10.0))
    assert (failure.reason, failure.ending) == (Reason.OVERLOADED, Ending.REFUSED)
    assert failure.effects is Effects.NONE


def test_a_client_that_leaves_while_the_plan_leaves_is_not_waited_for(
    client: Stage3Client, fake: FakeStage3
) -> None:
    """Expect the call to be cancelled at once, and the outcome to be unknown."""
    cancelled = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if context.add_callback(cancelled.set):
            cancelled.wait(10)
        return completed(request, [])

    fake.script = answer
    failure = _failure(client, _patience(10.0, 10.0, leaving=False))
    assert (failure.reason, failure.ending) == (Reason.OUTCOME_UNKNOWN, Ending.UNKNOWN)


@pytest.mark.parametrize(
    ("domain", "reason", "expected"),
    [
        ("stagegate", "A_REASON_OF_TOMORROW", Reason.INTERNAL),
        ("stagegate", "OUTCOME_UNRECORDED", Reason.OUTCOME_UNRECORDED),
        ("elsewhere.test", "TOKEN_EXPIRED", Reason.OUTCOME_UNKNOWN),
    ],
)
def test_a_reason_that_says_too_little_leaves_the_outcome_unknown(
    client: Stage3Client, fake: FakeStage3, domain: str, reason: str, expected: Reason
) -> None:
    """Expect unknown effects for a reason nobody knows, one without an outcome, one of others."""

    def answer(_request: Any, context: grpc.ServicerContext) -> Any:
        status = status_pb2.Status(code=13, message="a sentence")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
        context.abort_with_status(rpc_status.to_status(status))

    fake.script = answer
    failure = _failure(client, _patience(10.0, 10.0))
    assert (failure.reason, failure.ending) == (expected, Ending.UNKNOWN)
    assert failure.effects is Effects.UNKNOWN


class _BehindTheTruth(Connection):
    """A connection that still believes in a Stage-3 that is gone."""

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Say yes."""
        return timeout_s > 0


def test_a_call_that_found_no_connection_was_certainly_not_sent() -> None:
    """Expect gRPC's words for it to be the ones that are known, or the outcome to be unknown."""
    connection = _BehindTheTruth(pki().channel("stage4", "127.0.0.1:1", "stage3"))
    failure = _failure(Stage3Client(connection, connect_timeout_s=1.0), _patience(10.0, 10.0))
    connection.close()
    assert (failure.reason, failure.ending) == (Reason.STAGE3_UNREACHABLE, Ending.REFUSED)
