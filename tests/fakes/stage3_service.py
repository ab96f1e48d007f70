"""A small Stage-3 that obeys its test: the one RPC over real gRPC, with answers made to order.

It passes the port's contract suite, so that what a test forces out of it is the only thing that
differs from the real one. It has no store and no domains.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import rfc8785
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage3.v1 import plan_execution_service_pb2 as pb
from stagegate.stage3.v1.plan_execution_service_pb2_grpc import (
    PlanExecutionServiceServicer,
    add_PlanExecutionServiceServicer_to_server,
)

from servicekit.serving.status import WireError
from servicekit.serving.tls import server_credentials
from stage4_service.wire.status import STATUSES
from tests.harness.pki import pki

Request = pb.ExecuteMultiDomainPlanRequest
Response = pb.ExecuteMultiDomainPlanResponse
Script = Callable[[Request, grpc.ServicerContext], Response]

TOKEN = "token_" + "F" * 43


def refuse(
    context: grpc.ServicerContext,
    reason: str,
    message: str = "refused as asked",
    violations: tuple[tuple[str, str], ...] = (),
) -> Any:
    """End the call as Stage-3 ends it before admission."""
    STATUSES.abort(context, WireError(reason, message, violations))


def completed(request: Request, outputs: list[Any]) -> Response:
    """Return the response of a plan whose steps gave these outputs."""
    results = [{"step": step, "output": output} for step, output in enumerate(outputs)]
    result = {"status": "completed", "results": results}
    return Response(
        plan_id=request.plan_id,
        request_id=request.request_id,
        completed=pb.Completed(result_json=json.dumps(result, separators=(",", ":")).encode()),
    )


def digest_of(request: Request) -> bytes:
    """Compute the digest of a request's plan from the wire alone."""
    plan: dict[str, Any] = {
        "user_id": request.user_id,
        "trigger_type": request.trigger_type,
        "steps": [
            {
                "domain": step.domain,
                "method": step.method,
                "parameters": json.loads(step.parameters_json),
            }
            for step in request.steps
        ],
    }
    if request.data_bindings_declared:
        plan["data_bindings"] = [
            {field.name: value for field, value in binding.ListFields()}
            | {"source_step": binding.source_step}
            for binding in request.data_bindings
        ]
    return hashlib.sha256(rfc8785.dumps(plan)).digest()


class FakeStage3(PlanExecutionServiceServicer):
    """Executes plans of `trial` steps for `TOKEN`; `script`, when set, answers instead."""

    def __init__(self) -> None:
        self.received: list[Request] = []
        self.script: Script | None = None
        self.executed: list[str] = []
        self._stored: dict[tuple[str, str, str], tuple[bytes, Response]] = {}
        self._lock = threading.Lock()

    def ExecuteMultiDomainPlan(self, request: Request, context: grpc.ServicerContext) -> Response:
        """Answer as the script says, or as the real one would."""
        self.received.append(request)
        if self.script is not None:
            return self.script(request, context)
        with self._lock:
            return self._execute(request, context)

    def _execute(self, request: Request, context: grpc.ServicerContext) -> Response:
        if digest_of(request) != request.plan_digest:
            refuse(context, "DIGEST_MISMATCH")
        if request.token_hash != TOKEN:
            refuse(context, "TOKEN_NOT_ACCEPTED")
        scope = (request.caller, request.user_id, request.request_id)
        digest, stored = self._stored.get(scope, (b"", None))
        if stored is not None:
            if digest != request.plan_digest:
                refuse(context, "REQUEST_ID_REUSED")
            replay = Response()
            replay.CopyFrom(stored)
            replay.replay = True
            return replay
        if any(step.domain != "trial" for step in request.steps):
            refuse(context, "DOMAIN_NOT_IN_SCOPE")
        response = self._run(request)
        self._stored[scope] = (request.plan_digest, response)
        return response

    def _run(self, request: Request) -> Response:
        self.executed.append(request.plan_id)
        outputs: list[Any] = []
        for index, step in enumerate(request.steps):
            if step.method == "fail":
                effects = plan_outcome_pb2.EFFECTS_SOME if index else plan_outcome_pb2.EFFECTS_NONE
                return Response(
                    plan_id=request.plan_id,
                    request_id=request.request_id,
                    failed=pb.Ending(
                        reason="DOMAIN_FAILED", step=index, effects=effects, message="it failed"
                    ),
                )
            outputs.append(json.loads(step.parameters_json))
        return completed(request, outputs)


@contextmanager
def serving(fake: FakeStage3, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Serve the fake over mTLS and give its address."""
    keys = pki()
    pool = ThreadPoolExecutor(16)
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    add_PlanExecutionServiceServicer_to_server(fake, server)
    credentials = server_credentials(
        keys.file("stage3-server.crt"),
        keys.file("stage3-server.key"),
        keys.file("ca.crt"),
        now=datetime.now(UTC),
    )
    port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
        pool.shutdown(wait=True)
