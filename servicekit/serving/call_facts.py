"""What the door has established about a call before its servicer runs.

Deliberately absent: anything the caller merely claims. A servicer that asks for facts on a call
that passed no door gets an error, never a default.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import grpc

from servicekit.serving.identity import Identity


@dataclass(frozen=True, slots=True)
class CallFacts:
    """One call's verified caller, full method, and the moment after which nobody waits for it."""

    identity: Identity
    method: str
    deadline_monotonic_s: float
    monotonic_s: Callable[[], float] = field(repr=False, compare=False)

    def remaining_s(self) -> float:
        """Return the seconds left, zero when the deadline has passed."""
        return max(0.0, self.deadline_monotonic_s - self.monotonic_s())


# Keyed by the context object itself, so that facts die with their call and cannot be read by
# another call that later runs in the same pool thread.
_FACTS: "WeakKeyDictionary[grpc.ServicerContext, CallFacts]" = WeakKeyDictionary()
_IDENTITIES: "WeakKeyDictionary[grpc.ServicerContext, Identity]" = WeakKeyDictionary()


def record_identity(context: grpc.ServicerContext, identity: Identity) -> None:
    """Attach the verified caller; called by the identity interceptor only."""
    _IDENTITIES[context] = identity


def identity_of(context: grpc.ServicerContext) -> Identity | None:
    """Return the verified caller, or None when this call's door has not established one."""
    return _IDENTITIES.get(context)


def record_facts(context: grpc.ServicerContext, facts: CallFacts) -> None:
    """Attach a call's facts; called by the deadline interceptor, and by tests of a servicer."""
    _FACTS[context] = facts


def call_facts(context: grpc.ServicerContext) -> CallFacts:
    """Return what is known of this call.

    Raises:
        LookupError: the call came through a door that asks nobody who they are.
    """
    facts = _FACTS.get(context)
    if facts is None:
        message = "this call passed no door that establishes who is calling"
        raise LookupError(message)
    return facts
