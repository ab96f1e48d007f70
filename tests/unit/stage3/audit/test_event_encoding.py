"""An event's bytes: what the reference library of RFC 8785 writes, whatever the texts are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from stage3_service.audit.event import (
    EVENT_VERSION,
    EventType,
    NewEvent,
    Status,
    encode_event,
    format_timestamp,
)

if TYPE_CHECKING:
    from servicekit.ijson import JsonValue

TEXT = st.text(max_size=12)
MAYBE_TEXT = st.none() | TEXT
DATA: st.SearchStrategy[dict[str, JsonValue]] = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
EVENTS = st.builds(
    NewEvent,
    event_type=st.sampled_from(EventType),
    status=st.sampled_from(Status),
    user_id=MAYBE_TEXT,
    token_id=MAYBE_TEXT,
    plan_id=MAYBE_TEXT,
    step=st.none() | st.integers(0, 63),
    domain=MAYBE_TEXT,
    method=MAYBE_TEXT,
    reason=st.text(min_size=1, max_size=12),
    additional_data=DATA,
)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)).map(  # noqa: DTZ001 - made aware
    lambda instant: instant.replace(tzinfo=UTC)
)


def as_value(event: NewEvent, seq: int, timestamp: str) -> dict[str, Any]:
    """Return the event as the value that its bytes are of."""
    return {
        "v": EVENT_VERSION,
        "seq": seq,
        "event_type": event.event_type.value,
        "timestamp": timestamp,
        "user_id": event.user_id,
        "token_id": event.token_id,
        "plan_id": event.plan_id,
        "step": event.step,
        "domain": event.domain,
        "method": event.method,
        "status": event.status.value,
        "reason": event.reason,
        "additional_data": dict(event.additional_data),
    }


@settings(max_examples=max(300, settings().max_examples))
@given(EVENTS, st.integers(0, 2**53 - 1), INSTANTS)
def test_an_event_has_the_bytes_that_the_reference_library_writes(
    event: NewEvent, seq: int, instant: datetime
) -> None:
    """Every type, status and text gives equal bytes: quotes, controls and astral planes too."""
    timestamp = format_timestamp(instant)
    assert encode_event(event, seq, timestamp) == rfc8785.dumps(as_value(event, seq, timestamp))


@pytest.mark.parametrize("event_type", EventType)
@pytest.mark.parametrize("status", Status)
def test_every_type_and_status_is_encoded_as_its_name(
    event_type: EventType, status: Status
) -> None:
    """No pair is left to chance, and an event without anything else spells every null."""
    event = NewEvent(event_type, status, reason="because" if status is Status.DENIED else None)
    timestamp = "2026-03-04T05:06:07.000008Z"
    assert encode_event(event, 7, timestamp) == rfc8785.dumps(as_value(event, 7, timestamp))


@pytest.mark.parametrize("field", ["user_id", "domain", "method", "reason"])
def test_a_text_without_an_encoding_is_refused(field: str) -> None:
    """A lone surrogate is no text: the event is refused and nothing of it is written."""
    fields: dict[str, Any] = {field: "\ud800"}
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_event(NewEvent(EventType.TOKEN_ISSUED, Status.SUCCESS, **fields), 0, "now")


@given(INSTANTS)
def test_a_timestamp_is_read_back_as_the_same_instant(instant: datetime) -> None:
    """Microseconds are always spelled out, so that texts sort as instants do."""
    text = format_timestamp(instant)
    assert datetime.fromisoformat(text) - instant == timedelta(0)
    assert len(text) == len("2026-03-04T05:06:07.000008Z")
