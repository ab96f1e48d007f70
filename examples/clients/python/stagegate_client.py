"""Submit one plan to Stagegate from a service of yours. Copy this file; no other is needed.

It uses grpcio, protobuf, googleapis-common-protos and the stubs of `stagegate/stage4/v1`, made
from `protos` with grpcio-tools. Deliberately absent: retries. What is asked again, with the same
`request_id`, is asked by whoever decided so.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # no types
from stagegate.error.v1.plan_outcome_pb2 import Effects, PlanOutcome
from stagegate.stage4.v1.plan_service_pb2 import ExecutePlanRequest, ExecutePlanResponse
from stagegate.stage4.v1.plan_service_pb2_grpc import PlanServiceStub

PLACEHOLDER = b"REPLACE_WITH_TOKEN"
COMPLETED, REFUSED, USAGE, OUTCOME_UNKNOWN, UNREACHABLE = 0, 1, 2, 3, 69
"""Exit codes. After 1 and 3 `effects` says what may have changed; after 69 nothing has."""

ASK_AGAIN = frozenset(
    {
        "",  # no service answered, and bytes may have left
        "INTERNAL",
        "OUTCOME_PENDING",
        "OUTCOME_UNKNOWN",
        "OUTCOME_UNRECORDED",
        "REQUEST_IN_PROGRESS",
    }
)
"""Reasons after which the same `request_id` may learn more. Every other one is the last word."""

NO_ROOM = ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
"""How the server's gRPC refuses a call that it has no room for, before any code of the service sees
it: the plan did not start. It gives no reason, and an answer of the service always does."""


@dataclass(frozen=True)
class PlanError(Exception):
    """A plan that did not complete: whose words, which reason, and what may have changed."""

    code: str
    reason: str  # of the closed list in docs/errors.md; empty when no service answered
    message: str
    effects: str  # none, some or unknown
    plan_id: str
    request_id: str
    step: int | None
    violations: tuple[tuple[str, str], ...]  # field path and what is wrong there


def open_channel(address: str, server_name: str, authority: Path, keys: Path) -> grpc.Channel:
    """Open a channel that shows `keys`.crt and talks only to a server of this name."""
    credentials = grpc.ssl_channel_credentials(
        authority.read_bytes(),
        keys.with_name(f"{keys.name}.key").read_bytes(),
        keys.with_name(f"{keys.name}.crt").read_bytes(),
    )
    options = [
        ("grpc.ssl_target_name_override", server_name),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]
    return grpc.secure_channel(address, credentials, options=options)


def execute(
    channel: grpc.Channel, plan_json: bytes, request_id: str, timeout_s: float
) -> ExecutePlanResponse:
    """Submit the plan once, on a channel that is ready, and return its result.

    Keep `request_id` before you call: with it, and the same plan, you learn later what became of a
    lost answer, and nothing is executed twice.

    Raises:
        PlanError: it did not complete, or nobody knows.
    """
    request = ExecutePlanRequest(plan_json=plan_json, request_id=request_id)
    try:
        return PlanServiceStub(channel).ExecutePlan(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise read_error(error, request_id) from None


def read_error(error: Any, request_id: str) -> PlanError:  # noqa: ANN401 - gRPC raises a call
    """Read the google.rpc.Status of a failed call: ErrorInfo, BadRequest and PlanOutcome."""
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    outcome = PlanOutcome()
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    for detail in status.details:
        for message in (info, bad_request, outcome):
            detail.Unpack(message)
    if not status.details and (error.code().name, error.details()) == NO_ROOM:
        info.reason = "OVERLOADED"
    effects = Effects.Name(outcome.effects).removeprefix("EFFECTS_").lower()
    if effects == "unspecified":
        # A refusal that names its reason and no outcome came before anything was started. Whatever
        # no service explained may have happened after bytes had left.
        effects = "unknown" if info.reason in ASK_AGAIN else "none"
    return PlanError(
        code=error.code().name,
        reason=info.reason,
        message=status.message or error.details(),
        effects=effects,
        plan_id=outcome.plan_id,
        request_id=outcome.request_id or request_id,
        step=outcome.step if outcome.HasField("step") else None,
        violations=tuple((v.field, v.description) for v in bad_request.field_violations),
    )


def read_plan(plan: Path, token_file: Path) -> bytes:
    """Return the plan's own bytes, the token in its place and nothing else new."""
    return plan.read_bytes().replace(PLACEHOLDER, token_file.read_bytes().strip())


def main() -> int:
    """Submit a plan file; print the result as its domains wrote it, and facts on standard error."""
    parser = argparse.ArgumentParser(description="Submit one plan.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--address", default="127.0.0.1:7401")
    parser.add_argument("--server-name", required=True, help="the server certificate's DNS name")
    parser.add_argument("--authority", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True, help="certs/demo: certs/demo.crt, .key")
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--request-id", required=True, help="keep it: it finds a lost answer")
    parser.add_argument("--timeout-s", type=float, default=30.0)
    parser.add_argument("--connect-timeout-s", type=float, default=5.0)
    chosen = parser.parse_args()
    try:
        plan_json = read_plan(chosen.plan, chosen.token_file)
        channel = open_channel(chosen.address, chosen.server_name, chosen.authority, chosen.keys)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    with channel:
        try:
            grpc.channel_ready_future(channel).result(chosen.connect_timeout_s)
        except grpc.FutureTimeoutError:
            return say(UNREACHABLE, reason="UNREACHABLE", effects="none")
        try:
            answer = execute(channel, plan_json, chosen.request_id, chosen.timeout_s)
        except PlanError as failed:
            code = OUTCOME_UNKNOWN if failed.reason in ASK_AGAIN else REFUSED
            return say(code, **asdict(failed))
    sys.stdout.buffer.write(answer.result_json + b"\n")
    return say(
        COMPLETED, plan_id=answer.plan_id, request_id=answer.request_id, replay=answer.replay
    )


def say(exit_code: int, **facts: object) -> int:
    """Print one line of JSON on standard error, and return the exit code."""
    print(json.dumps(facts), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
