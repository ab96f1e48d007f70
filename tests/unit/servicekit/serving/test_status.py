"""Reasons on their way to a status, and back."""

from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)
from hypothesis import given
from hypothesis import strategies as st

from servicekit.serving.client_errors import ClientError, decode_rpc_error
from servicekit.serving.status import StatusTable, WireError

TABLE = StatusTable(
    "stagegate",
    {
        "PLAN_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
        "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    },
)
METADATA_MAX_BYTES = 8192


class Failed(grpc.RpcError):
    """A failed call as a client holds it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str | None,
        metadata: Sequence[tuple[str, str | bytes]] | None,
    ) -> None:
        self._facts = (code, message, metadata)

    def code(self) -> grpc.StatusCode:
        """Return the code of the call."""
        return self._facts[0]

    def details(self) -> str | None:
        """Return the message of the call."""
        return self._facts[1]

    def trailing_metadata(self) -> Any:
        """Return the metadata after the answer."""
        return self._facts[2]


def there_and_back(error: WireError) -> ClientError:
    """Encode with the table and decode as a client."""
    status = TABLE.status(error)
    return decode_rpc_error(
        Failed(
            TABLE.codes[error.reason],
            status.message,
            (("grpc-status-details-bin", status.SerializeToString()),),
        )
    )


def test_grpc_that_refuses_in_the_services_place_is_an_overload() -> None:
    """Its words, with its code and without details, and nothing else that has the same code."""
    words = "Concurrent RPC limit exceeded!"
    told = decode_rpc_error(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, words, ()))
    assert (told.code, told.reason, told.domain) == ("RESOURCE_EXHAUSTED", "OVERLOADED", "")
    others = [
        Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", ()),
        Failed(grpc.StatusCode.UNAVAILABLE, words, ()),
    ]
    assert [decode_rpc_error(other).reason for other in others] == ["", ""]


def test_everything_arrives() -> None:
    """Reason, domain, message, violations in order, and the service's own details."""
    detail = error_details_pb2.RequestInfo(request_id="r1")
    told = there_and_back(
        WireError("PLAN_INVALID", "no", (("steps[0]", "bad"), ("user_id", "worse")), (detail,))
    )
    assert (told.code, told.reason, told.domain, told.message) == (
        "INVALID_ARGUMENT",
        "PLAN_INVALID",
        "stagegate",
        "no",
    )
    assert told.violations == (("steps[0]", "bad"), ("user_id", "worse"))
    assert told.unpack(error_details_pb2.RequestInfo) == detail
    assert told.unpack(error_details_pb2.RetryInfo) is None


@given(message=st.text(), path=st.text(), description=st.text(), count=st.integers(0, 9))
def test_no_text_makes_an_error_that_cannot_be_sent(
    message: str, path: str, description: str, count: int
) -> None:
    """Any characters, any length: what leaves fits into a client's limit on metadata."""
    scale = 400
    error = WireError(
        "PLAN_INVALID", message * scale, ((path * scale, description * scale),) * count
    )
    status = TABLE.status(error)
    percent_encoded = 3 * len(status.message.encode())
    base64_encoded = 4 * (len(status.SerializeToString()) + 2) // 3
    assert percent_encoded + base64_encoded < METADATA_MAX_BYTES


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_a_short_message_without_surrogates_is_not_changed(message: str) -> None:
    """Cutting is for what is too long, and only lone surrogates are replaced."""
    sent = TABLE.status(WireError("OVERLOADED", message)).message
    if len(message.encode("utf-8", "replace")) <= 512:
        assert sent == message.encode("utf-8", "replace").decode("utf-8")
    else:
        assert sent.endswith("...")


def test_a_reason_that_is_not_in_the_table_is_a_defect() -> None:
    """No code is guessed."""
    with pytest.raises(KeyError):
        TABLE.status(WireError("OTHER", "text"))


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN])
def test_no_error_is_sent_as_ok_or_unknown(code: grpc.StatusCode) -> None:
    """The table itself refuses it, before any call."""
    with pytest.raises(ValueError, match="no error may be sent as"):
        StatusTable("stagegate", {"PLAN_INVALID": code})


GOOD = TABLE.status(WireError("OVERLOADED", "busy")).SerializeToString()


@pytest.mark.parametrize(
    ("code", "metadata"),
    [
        pytest.param(grpc.StatusCode.UNAVAILABLE, None, id="no metadata"),
        pytest.param(grpc.StatusCode.UNAVAILABLE, (), id="empty metadata"),
        pytest.param(grpc.StatusCode.UNAVAILABLE, (("other-bin", GOOD),), id="another key"),
        pytest.param(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            (("grpc-status-details-bin", b"\xff\xff"),),
            id="not a status",
        ),
        pytest.param(
            grpc.StatusCode.UNAVAILABLE, (("grpc-status-details-bin", GOOD),), id="another code"
        ),
    ],
)
def test_a_failure_that_no_service_told_has_no_reason(
    code: grpc.StatusCode, metadata: Sequence[tuple[str, str | bytes]] | None
) -> None:
    """What a proxy or a broken connection says is not taken for a service's answer."""
    told = decode_rpc_error(Failed(code, "text", metadata))
    assert told == ClientError(code.name, "", "", "text", (), ())


def test_a_detail_that_does_not_parse_is_kept_and_skipped() -> None:
    """One bad detail does not hide the others."""
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="busy")
    broken = AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    own = AnyMessage(type_url="type.googleapis.com/google.rpc.RequestInfo", value=b"\xff")
    status.details.extend([broken, own])
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="d"))
    told = decode_rpc_error(
        Failed(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            None,
            (("grpc-status-details-bin", status.SerializeToString()),),
        )
    )
    assert (told.reason, told.domain, len(told.details)) == ("OVERLOADED", "d", 2)
    assert told.unpack(error_details_pb2.RequestInfo) is None
