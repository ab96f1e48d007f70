"""What operators may send by mistake or by malice, and what comes back."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import apsw
import grpc
import pytest
from stagegate.stage3.v1 import audit_service_pb2, operator_service_pb2, token_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.audit.reads import EventFilter
from stage3_service.bootstrap import create_state
from stage3_service.settings import STORE_FILE
from stage3_service.store.operator_reads import SqliteOperatorReads
from stage3_service.store.token_rows import TokenRows
from tests.harness.stage3 import TIMEOUT_S, stage3_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.stage3 import Stage3UnderTest


def page_token(*position: object) -> str:
    """Return a page token with this position, as nobody at the door would have made it."""
    return urlsafe_b64encode(json.dumps(position).encode()).decode()


def test_a_credential_taken_for_a_reference_is_not_repeated(stage3: Stage3UnderTest) -> None:
    """An answer ends in terminals and logs, where a live credential must not be."""
    issued = stage3.issue()

    with pytest.raises(grpc.RpcError) as caught:
        stage3.revoke(issued.token_hash)

    error = decode_rpc_error(caught.value)
    assert error.reason == "TOKEN_NOT_FOUND"
    assert issued.token_hash not in str(error)


@pytest.mark.parametrize(
    "position", [(-(2**70),), (-1,), (2**63,), (10**30,)], ids=["far below", "-1", "2^63", "10^30"]
)
def test_a_position_that_no_event_can_have_is_no_page_token(
    stage3: Stage3UnderTest, position: tuple[int, ...]
) -> None:
    """It is refused in words, not met with an incident."""
    with pytest.raises(grpc.RpcError) as caught:
        stage3.audit().ListEvents(
            audit_service_pb2.ListEventsRequest(page_token=page_token(*position)),
            timeout=TIMEOUT_S,
        )

    assert decode_rpc_error(caught.value).reason == "REQUEST_INVALID"


@pytest.mark.parametrize(
    "position",
    [(2**63, "tok_a"), (1, "\ud800")],
    ids=["beyond any instant", "a lone surrogate"],
)
def test_a_position_that_no_token_can_have_is_no_page_token(
    stage3: Stage3UnderTest, position: tuple[int, str]
) -> None:
    """As for events."""
    with pytest.raises(grpc.RpcError) as caught:
        stage3.tokens().ListTokens(
            token_service_pb2.ListTokensRequest(page_token=page_token(*position)),
            timeout=TIMEOUT_S,
        )

    assert decode_rpc_error(caught.value).reason == "REQUEST_INVALID"


def test_tokens_come_in_pages_newest_first(stage3: Stage3UnderTest, clock: ManualClock) -> None:
    """Every token once, also those of one instant."""
    issued = []
    for seconds in (0, 1, 0, 0, 1):
        clock.advance(seconds)
        issued.append(stage3.issue().token)
    newest_first = sorted(
        ((token.issue_time.ToMicroseconds(), token.token_id) for token in issued), reverse=True
    )

    listed, page = [], ""
    for _ in range(3):
        answer = stage3.tokens().ListTokens(
            token_service_pb2.ListTokensRequest(page_size=2, page_token=page), timeout=TIMEOUT_S
        )
        listed += [token.token_id for token in answer.tokens]
        page = answer.next_page_token

    assert listed == [token_id for _, token_id in newest_first]
    assert page == ""


@pytest.mark.parametrize(
    "ask",
    [
        lambda stage3: stage3.events(),
        lambda stage3: stage3.operator().GetStatus(
            operator_service_pb2.GetStatusRequest(), timeout=TIMEOUT_S
        ),
        lambda stage3: stage3.operator().Resume(
            operator_service_pb2.ResumeRequest(reason="go on"), timeout=TIMEOUT_S
        ),
    ],
    ids=["ListEvents", "GetStatus", "Resume"],
)
def test_a_log_that_cannot_be_used_is_no_incident(
    stage3: Stage3UnderTest, ask: Callable[[Stage3UnderTest], object]
) -> None:
    """Whether it is read or written, an operator is told what is the matter."""
    stage3.service._ledger.close()

    with pytest.raises(grpc.RpcError) as caught:
        ask(stage3)

    assert decode_rpc_error(caught.value).reason == "AUDIT_UNAVAILABLE"


class _AskedOf:
    """Stand for a ledger and keep what it is asked."""

    def __init__(self) -> None:
        self.sql = ""

    def read(self, query: Callable[[_AskedOf], object]) -> object:
        return query(self)

    def rows(self, sql: str, _parameters: object = ()) -> list[object]:
        self.sql = sql
        return []


@pytest.mark.parametrize(
    ("only", "index"),
    [
        (EventFilter(plan_id="p", token_id="t", event_type="e"), "events_by_plan"),
        (EventFilter(plan_id="p", token_id="t"), "events_by_plan"),
        (EventFilter(plan_id="p", event_type="e"), "events_by_plan"),
        (EventFilter(token_id="t", event_type="e"), "events_by_token"),
        (EventFilter(event_type="e"), "events_by_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_events_are_found_by_the_rarest_of_their_names(
    tmp_path: Path, only: EventFilter, index: str
) -> None:
    """A plan's few events are not looked for among all those of its token."""
    settings = stage3_settings(tmp_path)
    create_state(settings)
    asked = _AskedOf()
    SqliteOperatorReads(asked, TokenRows()).event_page(10, -1, only)  # type: ignore[arg-type]

    connection = apsw.Connection(str(settings.state_dir / STORE_FILE))
    names = [name for name in (only.plan_id, only.token_id, only.event_type) if name]
    plan = connection.execute("EXPLAIN QUERY PLAN " + asked.sql, (-1, *names, 11)).fetchall()
    connection.close()

    assert index in str(plan)
    assert "TEMP B-TREE" not in str(plan)
