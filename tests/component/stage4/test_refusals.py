"""Refusals at the door: who is written down, and what is passed on."""

from __future__ import annotations

import pytest

from servicekit.serving.identity import Identity, IdentityKind
from stage4_service.audit import SecurityRecord
from stage4_service.errors import JournalUnavailable, Reason
from stage4_service.refusal_budget import RefusalBudget
from stage4_service.wire.refusals import Refusals
from tests.fakes.manual_clock import ManualClock
from tests.fakes.stage3_service import FakeStage3, refuse
from tests.fakes.trial_plans import trial_plan
from tests.harness.stage4 import Stage4UnderTest

DOMAIN = Identity(IdentityKind.DOMAIN, "text", "spiffe://stagegate.test/domain/text")


class _Log:
    """A security log that keeps records, or is gone."""

    def __init__(self) -> None:
        self.records: list[SecurityRecord] = []
        self.is_gone = False

    def record_security(self, record: SecurityRecord) -> None:
        """Keep the record."""
        if self.is_gone:
            raise JournalUnavailable("gone")
        self.records.append(record)


def _refusals(log: _Log, clock: ManualClock, burst: int = 1) -> Refusals:
    budget = RefusalBudget(burst=burst, per_second=1.0, monotonic_s=clock.monotonic_s)
    return Refusals(log, budget)


def test_a_caller_without_an_identity_is_recorded_without_a_name() -> None:
    """Expect the method and the reason, and an empty caller."""
    log = _Log()
    _refusals(log, ManualClock()).record_refused_call(None, "/a.B/C", "CLIENT_UNAUTHENTICATED")
    (record,) = log.records
    assert (record.record_type, record.caller) == ("caller_refused", "")
    assert record.details == {"method": "/a.B/C", "reason": "CLIENT_UNAUTHENTICATED"}


def test_a_caller_that_comes_back_is_summed_up_first() -> None:
    """Expect the summary before the next record, and each refusal counted once."""
    log, clock = _Log(), ManualClock()
    refusals = _refusals(log, clock)
    for _ in range(4):
        refusals.record_refused_call(DOMAIN, "/a.B/C", "METHOD_NOT_PERMITTED")
    clock.advance(1)
    refusals.record_refused_call(DOMAIN, "/a.B/C", "METHOD_NOT_PERMITTED")
    refusals.settle()
    kinds = [record.record_type.value for record in log.records]
    assert kinds == ["caller_refused", "denials_suppressed", "caller_refused"]
    assert log.records[1].details == {"count": 3}


def test_a_refusal_that_cannot_be_recorded_is_not_passed_over() -> None:
    """Expect the failure of the log to reach whoever refused."""
    log = _Log()
    log.is_gone = True
    with pytest.raises(JournalUnavailable):
        _refusals(log, ManualClock()).record_refused_call(DOMAIN, "/a.B/C", "METHOD_NOT_PERMITTED")


def test_the_deployments_own_trouble_costs_a_caller_nothing() -> None:
    """Expect a caller to be admitted however often Stage-3 was unreachable."""
    refusals = _refusals(_Log(), ManualClock())
    for _ in range(5):
        refusals.charge("caller", Reason.STAGE3_UNREACHABLE)
    assert refusals.admits("caller")


def test_what_stage3_finds_wrong_with_a_plan_is_passed_on(
    stage4: Stage4UnderTest, fake: FakeStage3
) -> None:
    """Expect the reason, the sentence and the path as Stage-3 gave them."""
    violations = (("steps[0].parameters", "must be an object"),)
    fake.script = lambda _r, context: refuse(context, "PLAN_INVALID", "a sentence", violations)
    executed = stage4.execute(trial_plan())
    assert executed.error is not None
    assert (executed.code, executed.reason) == ("INVALID_ARGUMENT", "PLAN_INVALID")
    assert executed.error.message == "a sentence"
    assert executed.error.violations == violations
