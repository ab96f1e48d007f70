"""I10: whatever operators and clients do, in whatever order, the gates decide as the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stage3_service.authorization import authorized_step, limit_gate, scope_gate, token_gate
from stage3_service.execution import admit, settle_step, start_step
from tests.harness.slices import slice_of_long_run
from tests.simulation.gates_machine import GatesMachine

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = 100


@pytest.mark.slow
def test_the_gates_decide_as_the_model_does() -> None:
    """No sequence of rules makes the log or an answer differ from the model."""
    run_state_machine_as_test(
        GatesMachine, settings=settings(max_examples=EXAMPLES, stateful_step_count=40)
    )


@pytest.mark.long
def test_the_gates_decide_as_the_model_does_for_long(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, with new examples each time."""
    part = slice_of_long_run()
    profile = settings.get_profile("long")
    runs = len(part.cases(profile.max_examples))
    run_state_machine_as_test(
        GatesMachine, settings=settings(profile, max_examples=runs, stateful_step_count=60)
    )
    record_property("figure", part.label(f"gates machine: {runs:,} runs, 0 differences"))


def _always_none(*_facts: Any, **_more: Any) -> None:
    """Let everything pass."""


def _without(reason: str, decide: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gate, blind to one reason."""

    def blind(*facts: Any, **more: Any) -> Any:
        denial = decide(*facts, **more)
        return None if denial is not None and denial.reason.value == reason else denial

    return blind


FOUND_FAST = {
    "revocation is not asked before a step",
    "limits are not asked before a step",
    "scope is not asked at admission",
    "invocations have one too many",
    "declarations are not asked",
    "expiry is never recorded",
}
SEEDED: dict[str, list[tuple[Any, str, Any]]] = {
    "revocation is not asked before a step": [
        (authorized_step, "decide_token", _without("token_revoked", token_gate.decide_token))
    ],
    "expiry is not asked before a step": [
        (authorized_step, "decide_token", _without("token_expired", token_gate.decide_token))
    ],
    "limits are not asked before a step": [(authorized_step, "decide_step_limits", _always_none)],
    "scope is not asked at admission": [(admit, "decide_scope", _always_none)],
    "declarations are not asked": [
        (admit, "decide_scope", _without("domain_unknown", scope_gate.decide_scope)),
        (authorized_step, "decide_scope", _without("domain_unknown", scope_gate.decide_scope)),
    ],
    "invocations have one too many": [
        (
            limit_gate,
            "_invocations_lack",
            lambda limits, usage, needed: (
                limits.max_invocations is not None
                and usage.invocations_charged + needed > limits.max_invocations + 1
            ),
        )
    ],
    "the window never counts": [
        (admit, "plan_starts_in_window", lambda *_: 0),
        (start_step, "plan_starts_in_window", lambda *_: 0),
    ],
    "the reservation is not settled": [(settle_step, "settlement", lambda *_: 0)],
    "the caller is not asked": [
        (admit, "decide_token", _without("caller_mismatch", token_gate.decide_token)),
        (authorized_step, "decide_token", _without("caller_mismatch", token_gate.decide_token)),
    ],
    "expiry is never recorded": [
        (admit, "observe_expiry", _always_none),
        (start_step, "observe_expiry", _always_none),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        error if error in FOUND_FAST else pytest.param(error, marks=pytest.mark.ci)
        for error in SEEDED
    ],
)
def test_a_seeded_error_is_found(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a Stage-3 with one error in its gates does not agree with the model."""
    for where, name, wrong in SEEDED[error]:
        monkeypatch.setattr(where, name, wrong)
    # Whatever it breaks first: the log, an answer, or an invariant of the executor itself.
    with pytest.raises(Exception):  # noqa: B017, PT011 - the test without the error passes
        run_state_machine_as_test(
            GatesMachine,
            settings=settings(
                max_examples=3 * EXAMPLES,
                stateful_step_count=40,
                phases=[Phase.generate],
                print_blob=False,
            ),
        )
