"""What operators may send by mistake or by malice, and what comes back."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import grpc
import pytest
from stagegate.stage3.v1 import audit_service_pb2, token_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from tests.harness.stage3 import TIMEOUT_S

if TYPE_CHECKING:
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
