"""What one honest client, one operator and one probe see while somebody else floods the pair.

Run as a program it takes its orders as one argument and measures once for each line it is sent. It
calls rarely and from a process of its own, so that what it measures is the services' time and not
the flood's own.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no types
from stagegate.stage3.v1 import token_service_pb2, token_service_pb2_grpc

from bench.load import Call
from bench.pair import STAGE4_NAME, USER
from bench.work import PlanWork
from servicekit.serving.channel import open_channel
from servicekit.serving.tls import channel_credentials

CALL_TIMEOUT_S: Final = 20.0
PAUSE_S: Final = 0.02
STAGE3_NAME: Final = "stage3.dev.test"
PLAN_CALLERS: Final = 4

Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Orders:
    """Where everything listens, the certificates' directory, and the client that this is."""

    clients: str
    operators: str
    stage3_probes: str
    stage4_probes: str
    certificates: str
    caller: str
    token_hash: str

    def encode(self) -> str:
        """Write this as one argument."""
        return json.dumps(asdict(self))


class Meter:
    """The connections of all that is measured."""

    def __init__(self, orders: Orders) -> None:
        self._work = PlanWork(USER, orders.token_hash)
        self._numbers = count()
        self._directory = Path(orders.certificates)
        clients = self._channel(orders.caller, orders.clients, STAGE4_NAME)
        self._plan: Call = clients.unary_unary(self._work.method)
        self._tokens = token_service_pb2_grpc.TokenServiceStub(
            self._channel("operator", orders.operators, STAGE3_NAME)
        )
        self._check = {
            "health of Stage-3": health_pb2_grpc.HealthStub(self._plain(orders.stage3_probes)),
            "health of Stage-4": health_pb2_grpc.HealthStub(self._plain(orders.stage4_probes)),
            "a check on the plans' listener": health_pb2_grpc.HealthStub(clients),
        }

    def run(self, seconds: float) -> Times:
        """Measure for so long; times in milliseconds, by what was measured."""
        times: Times = {}
        last = time.perf_counter() + seconds
        tokens = [self._issue() for _ in range(int(seconds / PAUSE_S / 4))]
        loops: list[Callable[[], str]] = [self._submit] * PLAN_CALLERS
        loops += [lambda name=name: self._probe(name) for name in self._check]  # type: ignore[misc]  # a default argument
        loops.append(lambda: self._revoke(tokens))
        threads = [
            threading.Thread(target=_repeat, args=(loop, times, last, index))
            for index, loop in enumerate(loops)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return times

    def _submit(self) -> str:
        label = f"meter-{next(self._numbers):08d}"
        request = self._work.request(label)
        try:
            response = self._plan(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code()
            return "refused plan" if code is grpc.StatusCode.RESOURCE_EXHAUSTED else code.name
        self._work.verify(label, request, response)
        return "admitted plan"

    def _probe(self, name: str) -> str:
        try:
            self._check[name].Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code()
            # The check on the plans' listener is refused like a plan when there is no room.
            return f"{name}, refused: {code.name}"
        return name

    def _revoke(self, tokens: list[str]) -> str:
        if not tokens:
            time.sleep(PAUSE_S)
            return ""
        request = token_service_pb2.RevokeTokenRequest(token_id=tokens.pop(), reason="measured")
        self._tokens.RevokeToken(request, timeout=CALL_TIMEOUT_S)
        return "Revoke"

    def _issue(self) -> str:
        request = token_service_pb2.IssueTokenRequest(
            user_id=USER,
            capability="to be revoked",
            domain_scope=["text"],
            method_scope=[token_service_pb2.MethodScope(domain="text", methods=["upper"])],
            resource_limits=token_service_pb2.ResourceLimits(),
            allowed_trigger_types=["manual"],
            lifetime_seconds=900,
            client_identities=["spiffe://dev.test/client/demo"],
        )
        return self._tokens.IssueToken(request, timeout=CALL_TIMEOUT_S).token.token_id

    def _channel(self, name: str, address: str, server_name: str) -> grpc.Channel:
        credentials = channel_credentials(
            self._directory / "ca.crt",
            self._directory / f"{name}.crt",
            self._directory / f"{name}.key",
            now=datetime.now(UTC),
        )
        return open_channel(address, credentials, server_name)

    def _plain(self, address: str) -> grpc.Channel:
        return open_channel(address, None, "")


def _repeat(loop: Callable[[], str], times: Times, last: float, index: int) -> None:
    # Spread, so that the loops do not all call in the same moment.
    time.sleep(PAUSE_S * index / 10)
    while (start := time.perf_counter()) < last:
        name = loop()
        if name:
            times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
        time.sleep(PAUSE_S)


def main() -> None:
    """Measure as often as asked."""
    meter = Meter(Orders(**json.loads(sys.argv[1])))
    for line in sys.stdin:
        print(json.dumps(meter.run(float(line))), flush=True)


if __name__ == "__main__":
    main()
