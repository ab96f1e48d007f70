"""A real Stage-4 in this process, spoken to over mTLS like anybody else."""

from __future__ import annotations

import copy
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2, plan_service_pb2_grpc
from uuid_utils.compat import uuid7

from servicekit.clock import Clock, SystemClock
from servicekit.serving.client_errors import ClientError, decode_rpc_error
from servicekit.serving.connection import Connection
from stage4_service.bootstrap import RunningStage4, build_stage4, init_store
from stage4_service.execution_plan import Stage4ExecutionPlan
from stage4_service.plan_digest import plan_digest
from stage4_service.settings import Listen, Refusals, Stage3, Stage3CallerTls, Stage4Settings, Tls
from stage4_service.stage3_port import Stage3Completion
from stage4_service.wire.stage3_client import CallersPatience, Stage3Call, Stage3Client
from tests.harness.pki import TRUST_DOMAIN, Pki, pki, uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT_S = 20.0


def stage4_settings(directory: Path, stage3_address: str, **changes: Any) -> Stage4Settings:
    """Return settings for a Stage-4 below `directory`, on ports that the system chooses."""
    keys = pki()
    return Stage4Settings(
        **{
            "state_dir": directory / "stage4",
            "disk_reserve_bytes": 1_048_576,
            "trust_domain": TRUST_DOMAIN,
            "outcome_key_file": directory / "stage4-outcome.keys",
            "listen": Listen(clients="127.0.0.1:0", probes="127.0.0.1:0", metrics="127.0.0.1:0"),
            "tls": Tls(
                certificate_file=keys.file("stage4-server.crt"),
                key_file=keys.file("stage4-server.key"),
                client_authority_file=keys.file("ca.crt"),
            ),
            "stage3": Stage3(
                address=stage3_address,
                connect_timeout_s=changes.pop("connect_timeout_s", 5.0),
                tls=changes.pop(
                    "stage3_tls",
                    Stage3CallerTls(
                        certificate_file=keys.file("stage4.crt"),
                        key_file=keys.file("stage4.key"),
                        server_authority_file=keys.file("ca.crt"),
                    ),
                ),
            ),
            # Tests are refused much more than a healthy caller is.
            "refusals": Refusals(burst=100_000, per_second=0),
            **changes,
        }
    )


@dataclass(slots=True)
class Executed:
    """Hold what `ExecutePlan` answered: a response, or the error it ended with."""

    response: plan_service_pb2.ExecutePlanResponse | None
    error: ClientError | None

    @property
    def reason(self) -> str:
        """Return the reason of the closed taxonomy; empty for a completed plan."""
        return "" if self.error is None else self.error.reason

    @property
    def code(self) -> str:
        """Return the name of the status code."""
        return "OK" if self.error is None else self.error.code

    @property
    def outcome(self) -> plan_outcome_pb2.PlanOutcome:
        """Return the detail that goes with a failed submission."""
        assert self.error is not None, self.response
        found = self.error.unpack(plan_outcome_pb2.PlanOutcome)
        assert found is not None, self.error
        return found

    @property
    def completed(self) -> plan_service_pb2.ExecutePlanResponse:
        """Return the response of a completed plan."""
        assert self.response is not None, self.error
        return self.response

    @property
    def result(self) -> Any:
        """Return the result of a completed plan."""
        return json.loads(self.completed.result_json)


@dataclass(slots=True)
class Stage4UnderTest:
    """Speak to a running Stage-4 as its callers do."""

    service: RunningStage4
    keys: Pki
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    def channel(self, caller: str = "cli") -> grpc.Channel:
        """Return this caller's channel."""
        if caller not in self._channels:
            address = self.service.addresses.clients
            self._channels[caller] = self.keys.channel(caller, address, "stage4")
        return self._channels[caller]

    def plans(self, caller: str = "cli") -> plan_service_pb2_grpc.PlanServiceStub:
        """Return the plan service as this caller sees it."""
        return plan_service_pb2_grpc.PlanServiceStub(self.channel(caller))

    def execute(
        self,
        document: Any,
        *,
        request_id: str = "",
        caller: str = "cli",
        timeout_s: float | None = TIMEOUT_S,
    ) -> Executed:
        """Submit a document, given as bytes or as a value to spell, and return the answer."""
        plan_json = document if isinstance(document, bytes) else json.dumps(document).encode()
        request = plan_service_pb2.ExecutePlanRequest(plan_json=plan_json, request_id=request_id)
        try:
            return Executed(self.plans(caller).ExecutePlan(request, timeout=timeout_s), None)
        except grpc.RpcError as error:
            return Executed(None, decode_rpc_error(error))

    def plan(self, plan_id: str, caller: str = "cli") -> plan_service_pb2.Plan:
        """Return a plan as this caller reads it."""
        request = plan_service_pb2.GetPlanRequest(plan_id=plan_id)
        return self.plans(caller).GetPlan(request, timeout=TIMEOUT_S).plan

    def events(self, caller: str = "cli", **only: Any) -> list[dict[str, Any]]:
        """Return the first page of log entries that this caller reads, oldest first."""
        page = self.plans(caller).ListAuditEvents(
            plan_service_pb2.ListAuditEventsRequest(page_size=1000, **only), timeout=TIMEOUT_S
        )
        return [json.loads(event.event_json) for event in page.events]

    def reaches_stage3(self) -> bool:
        """Say whether a connection to Stage-3 stands, as far as Stage-4 has heard."""
        with self.service._connections.using() as connection:
            return connection.is_ready

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


class GrpcPort:
    """A `Stage3Port` for any plan: spells the parameters, makes the one call, over mTLS.

    The service makes its own per call from the client's bytes; this one is for tests that hand a
    plan to the orchestrator as a value. `calls` holds what it was handed.
    """

    def __init__(
        self, address: str, *, caller: str = "cli", connect_timeout_s: float = 5.0
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        self.threads: list[int] = []
        self.request_id: str | None = None
        self.remaining_s = TIMEOUT_S
        self._caller = uri(caller)
        self._connection = Connection(pki().channel("stage4", address, "stage3"))
        self._client = Stage3Client(self._connection, connect_timeout_s=connect_timeout_s)

    def execute_multi_domain_plan(self, **plan: Any) -> Stage3Completion:
        """Submit the plan once."""
        self.calls.append(copy.deepcopy(plan))
        self.threads.append(threading.get_ident())
        call = Stage3Call(
            self._client,
            CallersPatience(lambda: self.remaining_s, lambda: True, lambda _leave: True),
            plan_id=f"plan_{uuid7().hex}",
            request_id=self.request_id or uuid7().hex,
            caller=self._caller,
            plan_digest=plan_digest(Stage4ExecutionPlan(**plan)),
            parameters_json=tuple(json.dumps(s["parameters"]).encode() for s in plan["steps"]),
        )
        return call.execute_multi_domain_plan(**plan)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def running_stage4(
    directory: Path,
    stage3_address: str,
    *,
    clock: Clock | None = None,
    create: bool = True,
    vfs: str | None = None,
    **changes: Any,
) -> Iterator[Stage4UnderTest]:
    """Run a Stage-4 whose state is below `directory`; `create=False` opens what is there."""
    settings = stage4_settings(directory, stage3_address, **changes)
    clock = clock or SystemClock()
    if create:
        init_store(settings, clock=clock)
    service = build_stage4(settings, clock=clock, ids=lambda: uuid7().hex, vfs=vfs)
    service.start()
    under_test = Stage4UnderTest(service, pki())
    try:
        yield under_test
    finally:
        under_test.close()
        service.stop(5.0)
