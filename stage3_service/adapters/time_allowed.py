"""Decides how long one call may take: the method's maximum or the plan's remaining time.

Guards against a call that starts with no time left, whose outcome nobody would wait for.
Deliberately absent: a clock. Time left is an argument of the call.
"""

from __future__ import annotations

from dataclasses import replace

from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import DomainUnreachable, Invocation


def allotted(declaration: DomainDeclaration, invocation: Invocation) -> Invocation:
    """Return the invocation with `deadline_s` at most what its method declares.

    Raises:
        DomainUnreachable: the domain does not declare the method, or no time is left.

    """
    method = declaration.methods.get(invocation.method)
    if method is None:
        raise DomainUnreachable("the domain does not declare this method")
    # Written so that a deadline that is not a number fails closed too.
    if not invocation.deadline_s > 0:
        raise DomainUnreachable("no time was left to start the call")
    if invocation.deadline_s <= method.max_duration_s:
        return invocation
    return replace(invocation, deadline_s=method.max_duration_s)
