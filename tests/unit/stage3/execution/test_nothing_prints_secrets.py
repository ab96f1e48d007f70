"""A value that ends in a traceback or a log line shows no key, no parameters and no result."""

from __future__ import annotations

import pytest

from stage3_service.audit.changes import PlanAdmitted, TokenRevoked
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.audit.records import PlanRecord, RequestScope
from stage3_service.authorization.authorized_step import AuthorizedStep, PreparedStep
from stage3_service.domains.port import Invocation, Output
from stage3_service.execution.invoke_step import Answered
from stage3_service.execution.prepare_step import CommittedBytes
from stage3_service.execution.settle_step import Following, Silent
from stage3_service.execution.submission import Submission
from stage3_service.plan.parse import RawPlan, RawStep
from tests.unit.stage3 import grants

SECRET = b"hunter2"
SCOPE = RequestScope(grants.CLIENT, "alice", "request-1")


@pytest.mark.parametrize(
    "value",
    [
        Submission(
            RawPlan("alice", "hunter2", "manual", (RawStep("text", "upper", SECRET),), None),
            SECRET,
            "plan-1",
            "request-1",
            grants.CLIENT,
            grants.DIGEST,
        ),
        TokenRevoked("tok_1", SECRET, grants.NOW),
        PlanAdmitted("plan-1", SCOPE, grants.DIGEST, SECRET, "tok_1", 1, grants.NOW),
        PlanRecord("plan-1", SCOPE, grants.DIGEST, SECRET, "tok_1", 1, None, None),
        PlanOutcome(OutcomeKind.COMPLETED, Effects.SOME, SECRET),
        AuthorizedStep("plan-1", 0, "text", "upper", SECRET, 1.0, 10),
        PreparedStep(grants.step(), SECRET, None),
        Invocation("upper", SECRET, 1.0, "plan-1/0"),
        Output(SECRET),
        Answered(Silent("no answer"), SECRET, "hunter2"),
        Following(None, SECRET),
        CommittedBytes({}, (("output", SECRET),)),
        NewEvent(EventType.EXECUTION_COMPLETED, Status.SUCCESS, salts=(("output", SECRET),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_printed_value_holds_no_secret(value: object) -> None:
    """Neither as text nor as bytes."""
    assert "hunter2" not in repr(value)
    assert "hunter2" not in str(value)
