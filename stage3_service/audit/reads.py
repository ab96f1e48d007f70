"""What operators may read, as values and a port. Reading never goes through the writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stage3_service.audit.records import TokenRecord


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Select events: each condition that is set must hold."""

    plan_id: str = ""
    token_id: str = ""
    event_type: str = ""


@dataclass(frozen=True, slots=True)
class EventRow:
    """Hold one stored event."""

    seq: int
    leaf: bytes
    event_type: str
    time_us: int


@dataclass(frozen=True, slots=True)
class TokenCursor:
    """Say where a page of tokens ended."""

    issued_us: int
    token_id: str


class OperatorReads(Protocol):
    """Answer from one consistent snapshot of what is durable, beside the writer. Any thread."""

    def token(self, token_id: str) -> TokenRecord | None:
        """Return one token."""

    def token_page(
        self, size: int, after: TokenCursor | None
    ) -> tuple[list[TokenRecord], TokenCursor | None]:
        """Return up to `size` tokens, newest first, and where the next page starts."""

    def event_page(
        self, size: int, after_seq: int, only: EventFilter
    ) -> tuple[list[EventRow], int | None]:
        """Return up to `size` events after `after_seq`, oldest first, and the next cursor."""

    def halt(self) -> tuple[str, int] | None:
        """Return why and since when (µs) an operator has halted the service, if one has."""

    def plans_running(self) -> int:
        """Return how many plans have no outcome yet."""
