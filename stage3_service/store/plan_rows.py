"""Rows of `plans`, read and written. What a plan was answered is sealed before it is stored.

It is opened by who tells it, after the turn that read it: the writer decrypts nothing. In the clear
are how a plan ended and at which step: the log says the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servicekit.store.key_ring import SealBroken
from stage3_service.audit.journal import OutcomeDamaged
from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.audit.records import PlanRecord, RequestScope
from stage3_service.store.instants import from_us, to_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servicekit.store.key_ring import KeyRing
    from stage3_service.audit.changes import PlanEnded

PLAN_COLUMNS = (
    "plan_id, caller, user_id, request_id, plan_digest, token_key, token_id, steps, running_step, "
    "ended_us, kind, effects, reason, step, key_id, sealed"
)
END = (
    "UPDATE plans SET running_step = NULL, ended_us = ?, kind = ?, effects = ?, "
    "reason = ?, step = ?, key_id = ?, sealed = ? WHERE plan_id = ?"
)
EndedRow = tuple[int, str, str, str, int, str, bytes, str]
_LABEL = b"outcome of a plan, v1"


@dataclass(frozen=True, slots=True)
class SealedOutcome:
    """A `StoredOutcome` as its row spells it; `context` is what the row says that it belongs to."""

    plan_id: str
    kind: str
    effects: str
    reason: str
    step: int
    key_id: str
    sealed: bytes = field(repr=False)
    context: tuple[bytes, ...] = field(repr=False)
    ring: KeyRing = field(repr=False)

    def open(self) -> PlanOutcome:
        """Return the outcome.

        Raises:
            OutcomeDamaged: what is stored does not open as the outcome of this very plan.
        """
        try:
            told = self.ring.open(self.key_id, self.sealed, self.context)
        except SealBroken as broken:
            raise OutcomeDamaged(f"the stored outcome of {self.plan_id}: {broken}") from None
        return _outcome(OutcomeKind(self.kind), Effects(self.effects), self.reason, self.step, told)


class PlanRows:
    """Decode plans and store their outcomes. Safe for any thread."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def decode(self, row: Sequence[Any]) -> PlanRecord:
        """Return the plan in a row of PLAN_COLUMNS, its outcome still sealed."""
        (
            plan_id, caller, user_id, request_id, digest, token_key, token_id, steps, running,
            ended_us, kind, effects, reason, step, key_id, sealed,
        ) = row  # fmt: skip
        scope = RequestScope(caller, user_id, request_id)
        outcome = None
        if kind is not None:
            context = _context(plan_id, scope, digest, token_key, kind, effects, reason, step)
            outcome = SealedOutcome(
                plan_id, kind, effects, reason, step, key_id, sealed, context, self._ring
            )
        return PlanRecord(
            plan_id=plan_id,
            scope=scope,
            plan_digest=digest,
            token_key=token_key,
            token_id=token_id,
            steps=steps,
            running_step=running,
            outcome=outcome,
            ended_at=None if ended_us is None else from_us(ended_us),
        )

    def ended_row(self, change: PlanEnded) -> EndedRow:
        """Return the row of END that stores the outcome of a plan."""
        outcome = change.outcome
        kind, effects = outcome.kind.value, outcome.effects.value
        told = outcome.result_json or outcome.message.encode()
        key_id, sealed = self._ring.seal(
            told,
            _context(
                change.plan_id, change.scope, change.plan_digest, change.token_key,
                kind, effects, outcome.reason, outcome.step,
            ),
        )  # fmt: skip
        return (
            to_us(change.at), kind, effects, outcome.reason, outcome.step, key_id, sealed,
            change.plan_id,
        )  # fmt: skip


def _outcome(
    kind: OutcomeKind, effects: Effects, reason: str, step: int, told: bytes
) -> PlanOutcome:
    if kind is OutcomeKind.COMPLETED:
        return PlanOutcome(kind, effects, told, reason, step)
    return PlanOutcome(kind, effects, b"", reason, step, told.decode())


def _context(
    plan_id: str,
    scope: RequestScope,
    digest: bytes,
    token_key: bytes,
    kind: str,
    effects: str,
    reason: str,
    step: int,
) -> tuple[bytes, ...]:
    """Return what an outcome is bound to: whose it is, who may ask for it, and how the plan ended.

    With the token's key in it, a hand that writes another one into the row is told nothing.
    """
    texts = (plan_id, scope.caller, scope.user_id, scope.request_id, kind, effects, reason)
    return (
        _LABEL,
        *(text.encode() for text in texts),
        digest,
        token_key,
        step.to_bytes(4, "big"),
    )
