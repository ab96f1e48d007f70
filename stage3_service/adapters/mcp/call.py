"""One `tools/call` on its way: where a plan's thread waits and a session's loop answers.

Guards the one question that matters when a call goes wrong: whether a byte of it may have left.
`begin` is called right before the first one does, and refuses a call whose caller has gone.
Deliberately absent: a second attempt. A call begins once and ends once.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

from servicekit.computing import Pause
from servicekit.ijson import JsonValue
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.port import (
    Answer,
    DomainSilent,
    DomainUnreachable,
    MethodFailed,
    Output,
)

Outcome = Answer | AnswerInvalid | DomainSilent | DomainUnreachable


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What is sent: the tool, its arguments, and the idempotency key as metadata."""

    tool: str
    arguments: dict[str, JsonValue] = field(repr=False)
    idempotency_key: str


class PendingCall:
    """A call that one thread waits for and another carries. The first outcome is the outcome."""

    __slots__ = ("_abandoned", "_lock", "_outcome", "_pause", "_sent", "answered", "request")

    def __init__(self, request: ToolCall) -> None:
        """Hold what is to be sent, on the thread that will wait; nothing has been sent yet."""
        self.request = request
        self.answered = False
        """Whether a response to it has arrived, whatever it says. The loop's alone."""
        self._lock = threading.Lock()
        self._pause = Pause()
        self._outcome: Outcome | None = None
        self._sent = False
        self._abandoned = False

    @property
    def sent(self) -> bool:
        """Say whether a byte of it may have left."""
        return self._sent

    def begin(self) -> bool:
        """Note that the first byte leaves now; answer False when nobody waits for it any more."""
        with self._lock:
            if self._abandoned or self._outcome is not None:
                return False
            self._sent = True
            return True

    def end(self, outcome: Outcome) -> None:
        """Give the outcome to whoever waits, unless there is one already."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
        self._pause.end()

    def end_without_answer(self, reason: str) -> None:
        """End a call to which no answer will come: in doubt if it may have left, else unreached."""
        self.end(DomainSilent(reason) if self._sent else DomainUnreachable(reason))

    def wait(self, timeout_s: float) -> Answer:
        """Wait for the outcome, at most this long, and return the answer.

        Raises:
            AnswerInvalid, DomainSilent, DomainUnreachable: as the port says.

        """
        self._pause.wait(timeout_s)
        with self._lock:
            # The outcome may have come between the timeout and this line: then it is in time.
            outcome = self._outcome
            self._abandoned = outcome is None
            if outcome is None:
                reason = f"no answer within {timeout_s:g} seconds"
                outcome = DomainSilent(reason) if self._sent else DomainUnreachable(reason)
        if isinstance(outcome, Output | MethodFailed):
            return outcome
        raise outcome


CARRIED: ContextVar[PendingCall | None] = ContextVar("carried", default=None)
"""The call that the current task carries, for the transport under the library to begin."""
