"""What a client is told when Stage-3 does not accept Stage-4 itself: nothing about the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stage4_service.settings import Refusals, Stage3CallerTls
from tests.fakes.stage3_service import FakeStage3, refuse
from tests.fakes.trial_plans import trial_plan
from tests.harness.pair import plan_document
from tests.harness.pki import pki
from tests.harness.stage3 import running_stage3, step
from tests.harness.stage4 import Executed, Stage4UnderTest, running_stage4

if TYPE_CHECKING:
    from pathlib import Path

NONE = 1
OF_STAGE4 = ("CLIENT_UNAUTHENTICATED", "METHOD_NOT_PERMITTED")
SPARING = Refusals(burst=1, per_second=0)


def verify_told_of_stage4(executed: Executed, reason: str) -> None:
    """Assert that the answer blames Stage-4's certificate, and says who does what."""
    assert (executed.code, executed.reason) == ("UNAVAILABLE", "STAGE3_UNREACHABLE")
    assert executed.outcome.effects == NONE
    assert executed.error is not None
    for words in (reason, "that Stage-4 calls with", "`stage3.tls`"):
        assert words in executed.error.message


@pytest.mark.parametrize("reason", OF_STAGE4)
def test_a_refused_stage4_has_no_stage3(
    stage4: Stage4UnderTest, fake: FakeStage3, reason: str
) -> None:
    """Expect nothing to have happened, what Stage-4's operator does, and the same in the log."""
    fake.script = lambda _request, context: refuse(context, reason)
    executed = stage4.execute(trial_plan())
    verify_told_of_stage4(executed, reason)
    (*_, last) = stage4.events(plan_id=executed.outcome.plan_id)
    assert last["details"]["reason"] == "STAGE3_UNREACHABLE"
    assert last["details"]["effects"] == "none"


def test_a_refused_client_is_told_so_unchanged(stage4: Stage4UnderTest, fake: FakeStage3) -> None:
    """The control: whatever else Stage-3 says is about the plan, and is passed on."""
    fake.script = lambda _request, context: refuse(context, "TOKEN_NOT_ACCEPTED")
    executed = stage4.execute(trial_plan())
    assert (executed.code, executed.reason) == ("UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        *((reason, ["STAGE3_UNREACHABLE"] * 3) for reason in OF_STAGE4),
        ("TOKEN_NOT_ACCEPTED", ["TOKEN_NOT_ACCEPTED", "OVERLOADED", "OVERLOADED"]),
    ],
)
def test_a_client_does_not_pay_for_it(
    tmp_path: Path, fake: FakeStage3, stage3_address: str, reason: str, told: list[str]
) -> None:
    """A budget of one refusal is not touched; the control is a refusal of the client's own."""
    fake.script = lambda _request, context: refuse(context, reason)
    with running_stage4(tmp_path, stage3_address, refusals=SPARING) as stage4:
        assert [stage4.execute(trial_plan()).reason for _ in told] == told


def test_a_stage4_with_a_certificate_of_another_identity_is_told_apart(tmp_path: Path) -> None:
    """A real Stage-3 refuses a domain's identity, and the client is not blamed for it."""
    keys = pki()
    another = Stage3CallerTls(
        certificate_file=keys.file("domain.crt"),
        key_file=keys.file("domain.key"),
        server_authority_file=keys.file("ca.crt"),
    )
    with running_stage3(tmp_path) as stage3:
        token = stage3.issue().token_hash
        document = plan_document(token, step("text", "upper", text="a"))
        address = stage3.service.plans.address
        with running_stage4(tmp_path / "wrong", address, stage3_tls=another) as stage4:
            verify_told_of_stage4(stage4.execute(document), "METHOD_NOT_PERMITTED")
        with running_stage4(tmp_path / "right", address) as stage4:
            assert stage4.execute(document).reason == ""
