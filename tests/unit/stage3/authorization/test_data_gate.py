"""Gate 4 hands the final parameters to the declared schema and repeats none of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servicekit.ijson import JsonValue
from stage3_service.authorization.data_gate import decide_parameters, deny_unresolved
from stage3_service.authorization.declared import ParametersValidator
from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.errors import Reason
from stage3_service.plan.bindings import BindingUnresolved, ResolvedParameters


@dataclass
class NeedsText:
    """A validator that wants the member `text`, and remembers what it was shown."""

    shown: list[JsonValue] = field(default_factory=list)

    def first_error(self, value: JsonValue) -> str | None:
        """Refuse what has no `text`."""
        self.shown.append(value)
        return None if isinstance(value, dict) and "text" in value else "text: is required"


@dataclass(frozen=True)
class Method:
    """What the gate asks of a declared method."""

    validator: ParametersValidator | None
    max_duration_s: float = 1.0
    max_response_bytes: int = 1_000


def resolved(**members: Any) -> ResolvedParameters:
    """Return resolved parameters."""
    return ResolvedParameters(members, b"irrelevant")


def test_without_a_schema_every_object_fits() -> None:
    """Nothing is declared, nothing is asked."""
    assert decide_parameters(Method(None), resolved(any="thing"), step=0) is None


def test_parameters_that_match_the_schema_pass() -> None:
    """The validator is shown the final value, after bindings."""
    validator = NeedsText()
    assert decide_parameters(Method(validator), resolved(text="a"), step=0) is None
    assert validator.shown == [{"text": "a"}]


def test_parameters_that_do_not_match_are_denied_with_the_place() -> None:
    """The validator's words, the step, and no value."""
    denial = decide_parameters(Method(NeedsText()), resolved(secret="hunter2"), step=3)
    assert denial == Denial(DenialReason.PARAMETERS_INVALID, 3, detail="text: is required")
    assert denial.public is Reason.PARAMETERS_INVALID
    assert denial.gate is GateName.DATA_BOUNDARY
    assert "hunter2" not in denial.message


def test_an_unresolved_binding_is_gate_fours_denial() -> None:
    """It names the binding and why."""
    denial = deny_unresolved(BindingUnresolved(2, "step 0 has no output"), step=1)
    assert denial.reason is DenialReason.BINDING_UNRESOLVED
    assert denial.public is Reason.BINDING_UNRESOLVED
    assert denial.gate is GateName.DATA_BOUNDARY
    assert denial.step == 1
    assert denial.message.endswith("data_bindings[2]: step 0 has no output")
