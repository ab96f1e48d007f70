"""What any Stage-3 promises Stage-4 through the port: the real one and the fake, alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from servicekit.serving.connection import Connection
from stage4_service.errors import Effects, Reason
from stage4_service.limits import PlanLimits
from stage4_service.plan_document import read_plan_document
from stage4_service.stage3_port import Ending, Stage3Completion, Stage3Failure
from stage4_service.wire.stage3_client import CallersPatience, Stage3Call, Stage3Client
from tests.fakes.domains import trial_domain
from tests.fakes.stage3_service import TOKEN, FakeStage3, serving
from tests.harness.pki import pki, uri
from tests.harness.stage3 import running_stage3


@dataclass
class Port:
    """One Stage-3 behind its port, and the way to submit to it."""

    address: str
    token: str
    client: Stage3Client
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def submit(self, *steps: dict[str, Any], **changes: Any) -> Stage3Completion:
        """Submit a plan of these steps once."""
        number = next(self.numbers)
        plan = {
            "user_id": "ada",
            "token_hash": changes.pop("token_hash", self.token),
            "trigger_type": "manual",
            "steps": list(steps),
        } | changes.pop("plan", {})
        document = read_plan_document(json.dumps(plan).encode(), PlanLimits())
        call = Stage3Call(
            self.client,
            CallersPatience(lambda: 20.0, lambda: True, lambda _leave: True),
            **{
                "plan_id": f"plan_{number}",
                "request_id": f"request-{number}",
                "caller": uri("cli"),
                "plan_digest": document.digest,
                "parameters_json": document.parameters_json,
                **changes,
            },
        )
        return call.execute_multi_domain_plan(
            user_id=document.plan.user_id,
            token_hash=document.plan.token_hash,
            trigger_type=document.plan.trigger_type,
            steps=document.plan.steps.copy(),
            data_bindings=None
            if document.plan.data_bindings is None
            else document.plan.data_bindings.copy(),
        )

    def refusal(self, *steps: dict[str, Any], **changes: Any) -> Stage3Failure:
        """Submit a plan that does not complete, and return how it ended."""
        with pytest.raises(Stage3Failure) as failed:
            self.submit(*steps, **changes)
        return failed.value


@pytest.fixture(params=["fake", "real"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Port]:
    """Give each Stage-3 in turn; `trial` echoes its parameters, or fails when told to."""
    if request.param == "fake":
        with serving(FakeStage3()) as address:
            yield from _connected(address, TOKEN)
        return
    extra, domain = trial_domain()
    with running_stage3(tmp_path, extra_domains=[extra]) as stage3:
        issued = stage3.issue(scope={"trial": ("echo", "fail")})
        yield from _connected(stage3.service.plans.address, issued.token_hash)
        domain.release.set()


def _connected(address: str, token: str) -> Iterator[Port]:
    connection = Connection(pki().channel("stage4", address, "stage3"))
    yield Port(address, token, Stage3Client(connection, connect_timeout_s=5.0))
    connection.close()


def _echo(**parameters: Any) -> dict[str, Any]:
    return {"domain": "trial", "method": "echo", "parameters": parameters}


_FAIL: dict[str, Any] = {"domain": "trial", "method": "fail", "parameters": {}}


def test_a_plan_whose_steps_complete_returns_their_outputs_in_order(port: Port) -> None:
    """Expect the result document with one entry for each step, and no replay."""
    result = port.submit(_echo(n=1), _echo(n=2), plan_id="plan_a")
    assert json.loads(result.result_json) == {
        "status": "completed",
        "results": [{"step": 0, "output": {"n": 1}}, {"step": 1, "output": {"n": 2}}],
    }
    assert (result.replay, result.executed_plan_id) == (False, "plan_a")


def test_an_empty_list_of_bindings_is_a_declaration(port: Port) -> None:
    """Expect a plan that declares none by an empty list to have its own digest, on both sides."""
    assert port.submit(_echo(), plan={"data_bindings": []}).replay is False


def test_the_same_request_is_answered_with_the_stored_outcome(port: Port) -> None:
    """Expect the same bytes, marked as a replay of the plan that was executed."""
    first = port.submit(_echo(n=1), request_id="r", plan_id="plan_first")
    second = port.submit(_echo(n=1), request_id="r", plan_id="plan_second")
    assert second.result_json == first.result_json
    assert (second.replay, second.executed_plan_id) == (True, "plan_first")


def test_a_request_identifier_names_one_plan_only(port: Port) -> None:
    """Expect another plan under a used identifier to be refused without an effect."""
    port.submit(_echo(n=1), request_id="r")
    failure = port.refusal(_echo(n=2), request_id="r")
    assert (failure.reason, failure.ending) == (Reason.REQUEST_ID_REUSED, Ending.REFUSED)
    assert failure.effects is Effects.NONE


def test_a_token_that_is_not_accepted_refuses_the_plan(port: Port) -> None:
    """Expect the reason, and that nothing happened."""
    failure = port.refusal(_echo(), token_hash="token_" + "0" * 43)
    assert (failure.reason, failure.ending) == (Reason.TOKEN_NOT_ACCEPTED, Ending.REFUSED)
    assert (failure.effects, failure.step, failure.replay) == (Effects.NONE, None, None)


def test_a_digest_of_another_plan_is_found_out(port: Port) -> None:
    """Expect Stage-3 to compute the digest itself."""
    assert port.refusal(_echo(), plan_digest=bytes(32)).reason is Reason.DIGEST_MISMATCH


def test_a_step_outside_the_scope_refuses_the_whole_plan(port: Port) -> None:
    """Expect no effect of the steps before it."""
    other = {"domain": "other", "method": "echo", "parameters": {}}
    failure = port.refusal(_echo(), other)
    assert (failure.reason, failure.ending) == (Reason.DOMAIN_NOT_IN_SCOPE, Ending.REFUSED)


def test_a_step_that_fails_ends_the_plan_and_tells_what_stays(port: Port) -> None:
    """Expect the step, and that the effects of earlier steps stay."""
    failure = port.refusal(_echo(), _FAIL, _echo(), plan_id="plan_a")
    assert (failure.reason, failure.ending) == (Reason.DOMAIN_FAILED, Ending.FAILED)
    assert failure.step == 1
    assert failure.effects is not Effects.NONE
    assert (failure.replay, failure.executed_plan_id) == (False, "plan_a")


def test_a_failed_plan_is_replayed_as_it_failed(port: Port) -> None:
    """Expect the stored failure, not a second run."""
    port.refusal(_echo(), _FAIL, request_id="r", plan_id="plan_first")
    again = port.refusal(_echo(), _FAIL, request_id="r", plan_id="plan_second")
    assert (again.replay, again.executed_plan_id) == (True, "plan_first")
    assert (again.reason, again.step) == (Reason.DOMAIN_FAILED, 1)
