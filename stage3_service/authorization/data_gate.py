"""Gate 4: is what the domain would be handed exactly what the plan declares, and does it fit?

Depends on no state, so that it is decided before the transaction and reported in its place.
Deliberately absent: coercion to the schema, defaults from it, and the values themselves in any
answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage3_service.authorization.gate import Denial, DenialReason

if TYPE_CHECKING:
    from stage3_service.authorization.declared import DeclaredMethod
    from stage3_service.plan.bindings import BindingUnresolved, ResolvedParameters


def deny_unresolved(unresolved: BindingUnresolved, *, step: int) -> Denial:
    """Return gate 4's refusal of a step whose bindings could not be resolved."""
    return Denial(DenialReason.BINDING_UNRESOLVED, step, detail=str(unresolved))


def decide_parameters(
    method: DeclaredMethod, parameters: ResolvedParameters, *, step: int
) -> Denial | None:
    """Ask gate 4 about a step's final parameters. Without a declared schema any object fits."""
    if method.validator is None:
        return None
    error = method.validator.first_error(parameters.value)
    return None if error is None else Denial(DenialReason.PARAMETERS_INVALID, step, detail=error)
