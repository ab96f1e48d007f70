"""A plan that was sent and not answered: nobody knows, and everybody can find out."""

from collections.abc import Callable

import grpc
import pytest

from servicekit.cli.failure import CommandFailed
from servicekit.process import ExitCode
from stage4_service.cli.client.plan_client import PlanClient


class Lost(grpc.RpcError):
    """A call that a transport, not a service, ended."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        """Return the transport's own code."""
        return self._code

    def details(self) -> str:
        """Return the transport's own words."""
        return "Socket closed"

    def trailing_metadata(self) -> tuple[()]:
        """Return nothing: no service said anything."""
        return ()


class LosingChannel:
    """A ready channel on which every call ends in the same way."""

    def __init__(self, end: BaseException) -> None:
        self._end = end

    def unary_unary(self, *_method: object, **_codecs: object) -> Callable[..., object]:
        """Return a call that never answers."""

        def call(*_request: object, **_options: object) -> object:
            raise self._end

        return call


@pytest.mark.parametrize(
    "end",
    [
        Lost(grpc.StatusCode.UNAVAILABLE),
        Lost(grpc.StatusCode.DEADLINE_EXCEEDED),
        Lost(grpc.StatusCode.CANCELLED),
        KeyboardInterrupt(),
    ],
)
def test_the_outcome_is_unknown_and_can_be_learned(end: BaseException) -> None:
    """Effects unknown, never none; the request identifier, and how to use it."""
    client = PlanClient(LosingChannel(end))  # type: ignore[arg-type]

    with pytest.raises(CommandFailed) as failed:
        client.execute(b"{}", request_id="mine", timeout_s=1.0)

    assert failed.value.exit_code is ExitCode.REFUSED
    assert failed.value.reason == "OUTCOME_UNKNOWN"
    assert failed.value.facts == {"request_id": "mine", "effects": "unknown"}
    assert "--request-id mine" in failed.value.advice


def test_a_lost_reading_may_be_repeated() -> None:
    """It had no effect, so it is only that nobody answered."""
    client = PlanClient(LosingChannel(Lost(grpc.StatusCode.UNAVAILABLE)))  # type: ignore[arg-type]

    with pytest.raises(CommandFailed) as failed:
        client.plans(1)

    assert failed.value.exit_code is ExitCode.UNAVAILABLE
    assert failed.value.reason == "UNREACHABLE"
