"""The port every domain stands behind: what it is handed and what it may answer.

Guards the data boundary by its shape. A domain receives the four fields of `Invocation` and
nothing else, so a token, a user, a plan, the log or another step's result cannot reach it by
mistake. Deliberately absent: time limits (`adapters.bounded_call`), reading of the answer
(`domains.answer`) and every decision about whether the call may happen (`authorization`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

MAX_FAILURE_MESSAGE_BYTES = 1024
"""A failure is one sentence for people; more would make the log a channel for a domain's data."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """Everything a domain is given for one call.

    `deadline_s` is the time left in seconds, counted from the moment of the call.
    `idempotency_key` is `plan_id/step`: the same for one step and for no other.
    """

    method: str
    parameters_json: bytes = field(repr=False)
    deadline_s: float
    idempotency_key: str

    def __post_init__(self) -> None:
        """Refuse a mutable buffer: it would be memory shared between the caller and the domain.

        Raises:
            TypeError: `parameters_json` is not exactly `bytes`.

        """
        if type(self.parameters_json) is not bytes:
            raise TypeError("parameters_json must be immutable bytes")


@dataclass(frozen=True, slots=True)
class Output:
    """The method succeeded; `json_bytes` is what it returned, not yet trusted or bounded."""

    json_bytes: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a mutable buffer, which its domain could still change after it was read.

        Raises:
            TypeError: `json_bytes` is not exactly `bytes`.

        """
        if type(self.json_bytes) is not bytes:
            raise TypeError("json_bytes must be immutable bytes")


@dataclass(frozen=True, slots=True)
class MethodFailed:
    """The method ran and failed; `message` says why, for people, in at most 1,024 bytes of UTF-8.

    The message is recorded as a commitment and never shown to the client.
    """

    message: str

    def __post_init__(self) -> None:
        """Refuse a message that could not be recorded.

        Raises:
            TypeError: `message` is not a string.
            ValueError: `message` is too long or has no UTF-8 form.

        """
        if type(self.message) is not str:
            raise TypeError("a failure message must be a string")
        if len(self.message.encode("utf-8", "strict")) > MAX_FAILURE_MESSAGE_BYTES:
            raise ValueError(f"a failure message has at most {MAX_FAILURE_MESSAGE_BYTES} bytes")


Answer = Output | MethodFailed


class DomainUnreachable(Exception):
    """The call never began: no byte was sent, so there is no effect."""


class DomainSilent(Exception):
    """No answer came: the method may or may not have had its effect, and nobody knows which."""


class Domain(Protocol):
    """One domain, ready to be called from any thread, by several at once.

    Concurrency: calls are independent; an implementation serializes what it must.
    Idempotence: what a repeated key means is declared per method (`Repetition`). Stage-3 itself
    never repeats a call.
    """

    def invoke(self, invocation: Invocation) -> Answer:
        """Run one method once and return what it answered.

        Raises:
            DomainUnreachable: nothing was started; there is no effect.
            DomainSilent: something may have been started and did not answer in time.
            AnswerInvalid: the domain answered, and what came is no answer that could be handed on
                as bytes. It is an answer all the same: the step has failed, it is not in doubt.

        """
        ...
