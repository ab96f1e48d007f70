"""The pair when every place is taken: who is refused, who waits, and who does neither.

A domain that answers when it is told to holds the places, so that what must not wait for plans is
seen to be answered while no plan can end. Nothing is timed: `python -m bench overload` is for that.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no types
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2

from servicekit.serving.channel import open_channel
from servicekit.setting_types import ListenerBounds
from stage4_service.settings import ClientBounds
from tests.harness.eventually import eventually
from tests.harness.pair import Pair, as_bytes, plan_document, running_pair
from tests.harness.pki import pki, uri
from tests.harness.stage3 import step
from tests.harness.stage4 import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Longer than any answer takes that waits for nobody.
PATIENCE_S = 10.0
ROOMY = ListenerBounds(threads=16, max_in_flight=32)


@contextmanager
def held(pair: Pair, token: str, plans: int, caller: str = "cli") -> Iterator[list[Any]]:
    """Hold so many plans inside the domain, and yield their futures; let them go in the end."""
    with ExitStack() as release:
        release.callback(pair.trial.release.set)
        document = as_bytes(plan_document(token, step("trial", "hang")))
        request = plan_service_pb2.ExecutePlanRequest(plan_json=document)
        futures = [
            pair.stage4.plans(caller).ExecutePlan.future(request, timeout=TIMEOUT_S)
            for _ in range(plans)
        ]
        for _ in range(plans):
            assert pair.trial.entered.acquire(timeout=PATIENCE_S)
        yield futures
    for future in futures:
        assert future.result(timeout=TIMEOUT_S).result_json


def _check(address: str) -> int:
    """Ask a probe's question and return the answer."""
    with open_channel(address, None, "") as channel:
        request = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_S)
    return int(answer.status)


@pytest.fixture
def token_for_both() -> dict[str, Any]:
    """Return the fields of a token that both clients may use."""
    return {"client_identities": [uri("cli"), uri("other")]}


class TestEveryPlaceTaken:
    """Stage-4 holds as many plans as it may, and none of them can end."""

    def test_a_plan_is_refused_and_everybody_else_is_answered(
        self, tmp_path: Path, token_for_both: dict[str, Any]
    ) -> None:
        """Two clients hold all places; the next plan of either is refused before any can end.

        Revoke, Halt's listener and every probe answer meanwhile, and the plans end afterwards.
        """
        bounds = ClientBounds(threads=4, max_in_flight=4, max_in_flight_per_caller=2)
        with running_pair(
            tmp_path, stage3={"plans": ROOMY}, stage4={"plans": bounds}, max_duration_s=30.0
        ) as pair:
            token = pair.token(**token_for_both)
            victim = pair.stage3.issue()
            with held(pair, token, 2), held(pair, token, 2, "other") as futures:
                document = plan_document(token, step("text", "upper", text="late"))
                for caller in ("cli", "other"):
                    refused = pair.stage4.execute(document, caller=caller, timeout_s=PATIENCE_S)
                    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
                pair.stage3.revoke(victim.token.token_id)
                serving = int(health_pb2.HealthCheckResponse.SERVING)
                assert _check(pair.stage3.service.probes.address) == serving
                assert _check(pair.stage4.service.addresses.probes) == serving
                assert not any(future.done() for future in futures)
            # A client has its answer a moment before its place is free.
            assert eventually(lambda: pair.stage4.service._clients.in_flight == 0)
            assert pair.stage4.execute(document).reason == ""

    def test_a_refusal_leaves_nothing_in_either_log(
        self, tmp_path: Path, token_for_both: dict[str, Any]
    ) -> None:
        """A flood of refusals costs no event and no sync."""
        bounds = ClientBounds(threads=2, max_in_flight=2, max_in_flight_per_caller=1)
        with running_pair(tmp_path, stage4={"plans": bounds}, max_duration_s=30.0) as pair:
            token = pair.token(**token_for_both)
            with held(pair, token, 1):
                before = pair.sizes()
                document = plan_document(token, step("text", "upper", text="late"))
                reasons = {pair.stage4.execute(document).reason for _ in range(50)}
                assert reasons == {"OVERLOADED"}
                assert pair.sizes() == before

    def test_without_the_bound_what_shares_the_plans_listener_waits_for_plans(
        self, tmp_path: Path, token_for_both: dict[str, Any]
    ) -> None:
        """The control: more places than calls. A check beside the plans outwaits its caller.

        This is what Revoke would do behind the plans' queue; on its own listener it is answered in
        the same moment.
        """
        bounds = ClientBounds(threads=2, max_in_flight=64, max_in_flight_per_caller=64)
        with running_pair(tmp_path, stage4={"plans": bounds}, max_duration_s=30.0) as pair:
            token = pair.token(**token_for_both)
            victim = pair.stage3.issue()
            with held(pair, token, 2):
                address = pair.stage4.service.addresses.clients
                with pki().channel("cli", address, "stage4") as channel:
                    waiting = health_pb2_grpc.HealthStub(channel).Check.future(
                        health_pb2.HealthCheckRequest(), timeout=1.0
                    )
                    pair.stage3.revoke(victim.token.token_id)
                    error: Any = waiting.exception(timeout=PATIENCE_S)
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class TestOneClient:
    """A client that takes all it can get."""

    def test_it_leaves_the_others_a_plan_that_runs(
        self, tmp_path: Path, token_for_both: dict[str, Any]
    ) -> None:
        """It holds its share in the domain; another client's plan ends before any of those."""
        bounds = ClientBounds(threads=5, max_in_flight=8)
        with running_pair(tmp_path, stage4={"plans": bounds}, max_duration_s=30.0) as pair:
            token = pair.token(**token_for_both)
            with held(pair, token, bounds.share) as futures:
                document = plan_document(token, step("text", "upper", text="let in"))
                assert pair.stage4.execute(document).reason == "OVERLOADED"
                executed = pair.stage4.execute(document, caller="other", timeout_s=PATIENCE_S)
                assert executed.result["results"] == [{"step": 0, "output": {"text": "LET IN"}}]
                assert not any(future.done() for future in futures)

    def test_without_a_share_it_takes_the_service(
        self, tmp_path: Path, token_for_both: dict[str, Any]
    ) -> None:
        """The control: the other client, who asked for one plan, is refused."""
        bounds = ClientBounds(threads=4, max_in_flight=4, max_in_flight_per_caller=4)
        with running_pair(tmp_path, stage4={"plans": bounds}, max_duration_s=30.0) as pair:
            token = pair.token(**token_for_both)
            with held(pair, token, 4):
                document = plan_document(token, step("text", "upper", text="let in"))
                refused = pair.stage4.execute(document, caller="other", timeout_s=PATIENCE_S)
                assert refused.reason == "OVERLOADED"


def test_stage4_passes_an_overload_of_stage3_on_unchanged(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED, OVERLOADED, no effects; Stage-4's log holds the same reason."""
    narrow = ListenerBounds(threads=1, max_in_flight=1)
    with running_pair(tmp_path, stage3={"plans": narrow}, max_duration_s=30.0) as pair:
        token = pair.token()
        with held(pair, token, 1):
            document = plan_document(token, step("text", "upper", text="one too many"))
            refused = pair.stage4.execute(document, timeout_s=PATIENCE_S)
            assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert refused.outcome.effects == plan_outcome_pb2.EFFECTS_NONE
            failed = pair.stage4.events(plan_id=refused.outcome.plan_id)[-1]
            assert failed["event_type"] == "execution_failed"
            assert failed["details"]["reason"] == "OVERLOADED"
