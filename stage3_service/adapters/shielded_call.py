"""Turns whatever an in-process method does into one of the outcomes the port knows.

Guards the caller from code that raises or answers nonsense, and the outside from an exception's
text, which may hold parameters. Deliberately absent: time limits (`bounded_call`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from stage3_service.domains.port import (
    Answer,
    Domain,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)

RAISED = MethodFailed("the method raised an error")
UNREADABLE = MethodFailed("the method returned something that is no answer")


@dataclass(frozen=True, slots=True)
class RaisedError:
    """A method's own error, for the operator's log.

    The text of `error` may quote parameters: log its type and where it was raised, not its text.
    """

    domain: str
    method: str
    idempotency_key: str
    error: BaseException


OnRaised = Callable[[RaisedError], None]

Outcome = Answer | DomainUnreachable | DomainSilent


def outcome_of(name: str, domain: Domain, invocation: Invocation, on_raised: OnRaised) -> Outcome:
    """Invoke the domain called `name` and return what came of it; raise nothing.

    The port's own two exceptions are returned as values, so that they can cross a thread. Any
    other, and any result that is no answer, is a failure with a fixed message.
    """
    try:
        answer = domain.invoke(invocation)
    except (DomainUnreachable, DomainSilent) as outcome:
        return outcome
    except BaseException as error:  # noqa: BLE001 - SystemExit from a method must not end a worker
        report(on_raised, RaisedError(name, invocation.method, invocation.idempotency_key, error))
        return RAISED
    if type(answer) not in (Output, MethodFailed):
        wrong = TypeError(f"invoke returned {type(answer).__name__}")
        report(on_raised, RaisedError(name, invocation.method, invocation.idempotency_key, wrong))
        return UNREADABLE
    return answer


def report(on_raised: OnRaised, raised: RaisedError) -> None:
    """Hand an error to the operator's log, whatever the log does.

    The effect has happened and its outcome is known. A log that fails must not turn that outcome
    into silence, which would leave the step in doubt.
    """
    with suppress(Exception):
        on_raised(raised)
