"""The codec of Stage-3: what is stored is what is told, for every way a plan can end."""

import pytest
from stagegate.error.v1 import plan_outcome_pb2

from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.execution.submission import PlanAnswer
from stage3_service.wire.codec import encode_answer


@pytest.mark.parametrize("kind", list(OutcomeKind))
def test_every_kind_of_outcome_has_its_field(kind: OutcomeKind) -> None:
    """The oneof names the outcome, and the message holds what was stored."""
    outcome = PlanOutcome(kind, Effects.UNKNOWN, b"{}", "A_REASON", 3, "a sentence")
    response = encode_answer(PlanAnswer("p", "r", replay=True, outcome=outcome))
    assert (response.plan_id, response.request_id, response.replay) == ("p", "r", True)
    assert response.WhichOneof("outcome") == kind.value
    if kind is OutcomeKind.COMPLETED:
        assert response.completed.result_json == b"{}"
        return
    ending = getattr(response, kind.value)
    assert (ending.reason, ending.step, ending.message) == ("A_REASON", 3, "a sentence")
    assert ending.effects == plan_outcome_pb2.EFFECTS_UNKNOWN


@pytest.mark.parametrize("effects", list(Effects))
def test_every_effect_has_its_value(effects: Effects) -> None:
    """No effect is told as unspecified."""
    outcome = PlanOutcome(OutcomeKind.FAILED, effects, reason="R")
    response = encode_answer(PlanAnswer("p", "r", replay=False, outcome=outcome))
    name = plan_outcome_pb2.Effects.Name(response.failed.effects)
    assert name == f"EFFECTS_{effects.value.upper()}"
