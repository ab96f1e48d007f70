"""Gate 2: is this operation one of those the token names, declared, and what was accepted?

Exact strings against explicit lists. Deliberately absent: patterns, prefixes, case folding,
normalization, and any other token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage3_service.authorization.gate import Denial, DenialReason

if TYPE_CHECKING:
    from stage3_service.authorization.declared import DeclaredDomains
    from stage3_service.plan.plan import Step
    from stage3_service.tokens.token import CapabilityToken


def decide_scope(token: CapabilityToken, step: Step, catalogue: DeclaredDomains) -> Denial | None:
    """Ask gate 2 about one step.

    The token is asked before the catalogue, so that whoever may not call a domain does not learn
    whether it exists.
    """
    # 1. Domain in scope, then method.
    if step.domain not in token.domain_scope:
        return Denial(DenialReason.DOMAIN_NOT_IN_SCOPE, step.index)
    if not token.method_scope.permits(step.domain, step.method):
        return Denial(DenialReason.METHOD_NOT_IN_SCOPE, step.index)
    # 2. Domain declared, then method.
    if step.domain not in catalogue.domains:
        return Denial(DenialReason.DOMAIN_UNKNOWN, step.index)
    if catalogue.method(step.domain, step.method) is None:
        return Denial(DenialReason.METHOD_UNDECLARED, step.index)
    # 3. What is declared is what an operator has looked at: after the declaration, which is fixed.
    if catalogue.withholds(step.domain):
        return Denial(DenialReason.DOMAIN_NOT_ACCEPTED, step.index)
    return None
