"""What a caller learns when a handler fails: an incident number, and no word of the failure."""

import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import grpc
import pytest

from servicekit.serving.channel import open_channel
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.status import WireError
from tests.component.servicekit.serving_world import (
    SERVER_NAME,
    STATUSES,
    World,
    call,
    failure,
    full,
)

SECRET = "the password is hunter2"


class Unprintable(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError(SECRET)

    __repr__ = __str__


class TestException:
    """Every way a handler can fail ends in the same opaque answer."""

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(ValueError(SECRET), id="exception"),
            pytest.param(Exception(), id="bare exception"),
            pytest.param(KeyboardInterrupt(SECRET), id="interrupt"),
            pytest.param(SystemExit(SECRET), id="exit"),
            pytest.param(StopIteration(SECRET), id="stop iteration"),
            pytest.param(grpc.RpcError(SECRET), id="another call's failure"),
            pytest.param(Unprintable(), id="unprintable"),
        ],
    )
    def test_any_exception_is_an_incident(self, world: World, error: BaseException) -> None:
        """INTERNAL with an id on the wire; the log has the same id and the method."""

        def get(_request: bytes, _context: grpc.ServicerContext) -> NoReturn:
            raise error

        server = world.serve({"Get": get})
        told = failure(world.channel(server), "Get")
        assert (told.code, told.reason, told.domain) == ("INTERNAL", "INTERNAL", "stagegate")
        assert told.message == "internal error, incident incident-1"
        (incident,) = [line for line in world.lines() if line["event"] == "unhandled_exception"]
        assert (incident["incident"], incident["method"]) == ("incident-1", full("Get"))
        assert type(error).__name__ in incident["exception"]

    def test_the_text_of_the_exception_is_in_the_log_only(self, world: World) -> None:
        """Nothing a client can read holds it: not the message, not a detail, not the metadata."""

        def get(_request: bytes, _context: grpc.ServicerContext) -> NoReturn:
            raise ValueError(SECRET)

        server = world.serve({"Get": get})
        with pytest.raises(grpc.RpcError) as caught:
            call(world.channel(server), "Get")
        raised: Any = caught.value
        assert "hunter2" not in str(raised)
        assert "hunter2" not in repr(raised.trailing_metadata())
        assert "hunter2" in world.log.getvalue()

    def test_a_credential_in_an_exception_is_not_even_in_the_log(self, world: World) -> None:
        """The log keeps the text of a failure, but never a credential in it."""
        credential = "token_" + "Aa0_-" * 8 + "abc"

        def get(_request: bytes, _context: grpc.ServicerContext) -> NoReturn:
            raise ValueError(b"presented " + credential.encode())

        server = world.serve({"Get": get})
        failure(world.channel(server), "Get")
        assert credential not in world.log.getvalue()
        assert "presented [redacted]" in world.log.getvalue()

    def test_an_exception_amid_a_stream_is_an_incident(self, world: World) -> None:
        """The messages before it arrive, then the same opaque end."""

        def watch(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
            yield b"one"
            raise ValueError(SECRET)

        server = world.serve({"Watch": grpc.unary_stream_rpc_method_handler(watch)})
        stream = world.channel(server).unary_stream(full("Watch"))(b"", timeout=10)
        assert next(stream) == b"one"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        told = decode_rpc_error(caught.value)
        assert (told.code, told.reason) == ("INTERNAL", "INTERNAL")

    def test_a_failing_lookup_of_the_handler_is_an_incident(self, world: World) -> None:
        """An exception before any handler exists would be UNKNOWN without the shield."""

        class Broken(grpc.GenericRpcHandler):
            def service(self, handler_call_details: grpc.HandlerCallDetails) -> NoReturn:
                raise ValueError(SECRET)

        server = world.serve(
            {}, services=[lambda server: server.add_generic_rpc_handlers((Broken(),))]
        )
        told = failure(world.channel(server), "Get")
        assert (told.code, told.reason) == ("INTERNAL", "INTERNAL")


class TestForms:
    """Handlers of every form pass the same door."""

    def test_a_stream_of_requests_is_served_and_shielded(self, world: World) -> None:
        """One answer to many requests, and the same opaque end when it fails."""

        def total(requests: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
            joined = b"".join(requests)
            if joined == b"bad":
                raise ValueError(SECRET)
            return joined

        server = world.serve({"Sum": grpc.stream_unary_rpc_method_handler(total)})
        method = world.channel(server).stream_unary(full("Sum"))
        assert method(iter([b"a", b"b"]), timeout=10) == b"ab"
        with pytest.raises(grpc.RpcError) as caught:
            method(iter([b"b", b"ad"]), timeout=10)
        assert decode_rpc_error(caught.value).reason == "INTERNAL"

    def test_a_stream_both_ways_is_served_and_shielded(self, world: World) -> None:
        """Answers leave as requests come, and a failure between them is opaque."""

        def echo(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
            for request in requests:
                if request == b"bad":
                    raise ValueError(SECRET)
                yield request

        server = world.serve({"Echo": grpc.stream_stream_rpc_method_handler(echo)})
        method = world.channel(server).stream_stream(full("Echo"))
        assert list(method(iter([b"a", b"b"]), timeout=10)) == [b"a", b"b"]
        answers = method(iter([b"a", b"bad"]), timeout=10)
        assert next(answers) == b"a"
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert decode_rpc_error(caught.value).reason == "INTERNAL"

    def test_a_client_that_leaves_a_stream_is_no_incident(self, world: World) -> None:
        """The handler's generator is closed, and nothing is logged as a failure."""
        closed = threading.Event()

        def watch(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
            finally:
                closed.set()

        server = world.serve({"Watch": grpc.unary_stream_rpc_method_handler(watch)})
        stream = world.channel(server).unary_stream(full("Watch"))(b"", timeout=30)
        assert next(stream) == b"x" * 1000
        stream.cancel()
        assert closed.wait(10)
        assert "unhandled_exception" not in world.log.getvalue()

    def test_an_unknown_method_of_a_server_that_asks_nobody_is_unimplemented(
        self, world: World
    ) -> None:
        """Where there is no table there is nothing to hide."""
        server = world.serve({}, credentials=None, policy=world.policy(access=None))
        channel = open_channel(server.address, None, SERVER_NAME)
        world.channels.append(channel)
        assert failure(channel, "Absent").code == "UNIMPLEMENTED"


class TestAbort:
    """A handler that ends its call on purpose is left alone."""

    def test_a_plain_abort_passes_unchanged(self, world: World) -> None:
        """Code and text are the handler's, and no incident is logged."""

        def get(_request: bytes, context: grpc.ServicerContext) -> NoReturn:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such plan")

        server = world.serve({"Get": get})
        told = failure(world.channel(server), "Get")
        assert (told.code, told.reason, told.message) == ("NOT_FOUND", "", "no such plan")
        assert [line["event"] for line in world.lines()] == ["call"]

    def test_a_status_with_details_passes_unchanged(self, world: World) -> None:
        """Reason, violations and message arrive as the table encoded them."""

        def get(_request: bytes, context: grpc.ServicerContext) -> NoReturn:
            STATUSES.abort(
                context,
                WireError("PLAN_INVALID", "invalid plan", (("steps[0].domain", "is missing"),)),
            )

        server = world.serve({"Get": get})
        told = failure(world.channel(server), "Get")
        assert (told.code, told.reason, told.message, told.violations) == (
            "INVALID_ARGUMENT",
            "PLAN_INVALID",
            "invalid plan",
            (("steps[0].domain", "is missing"),),
        )
        assert [line["code"] for line in world.lines()] == ["INVALID_ARGUMENT"]

    def test_an_abort_amid_a_stream_passes_unchanged(self, world: World) -> None:
        """The same holds after the first message of an answer."""

        def watch(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield b"one"
            STATUSES.abort(context, WireError("PLAN_INVALID", "invalid plan"))

        server = world.serve({"Watch": grpc.unary_stream_rpc_method_handler(watch)})
        with pytest.raises(grpc.RpcError) as caught:
            list(world.channel(server).unary_stream(full("Watch"))(b"", timeout=10))
        assert decode_rpc_error(caught.value).reason == "PLAN_INVALID"

    @pytest.mark.parametrize("how", ["abort", "abort OK", "set_code"])
    def test_unknown_never_leaves(self, world: World, how: str) -> None:
        """UNKNOWN tells a client nothing it can act on; it becomes an incident, however it came."""

        def get(_request: bytes, context: grpc.ServicerContext) -> bytes:
            match how:
                case "abort":
                    context.abort(grpc.StatusCode.UNKNOWN, SECRET)
                case "abort OK":
                    context.abort(grpc.StatusCode.OK, SECRET)
                case _:
                    context.set_code(grpc.StatusCode.UNKNOWN)
                    context.set_details(SECRET)
            return b""

        server = world.serve({"Get": get})
        told = failure(world.channel(server), "Get")
        assert (told.code, told.reason) == ("INTERNAL", "INTERNAL")
        assert SECRET not in told.message

    def test_a_reason_outside_the_table_is_an_incident(self, world: World) -> None:
        """A reason nobody mapped is a defect of the service, not a guess on the wire."""

        def get(_request: bytes, context: grpc.ServicerContext) -> NoReturn:
            STATUSES.abort(context, WireError("MADE_UP", SECRET))

        server = world.serve({"Get": get})
        assert failure(world.channel(server), "Get").reason == "INTERNAL"


class TestRequest:
    """Bytes that are not the declared message."""

    @pytest.mark.parametrize("reason", ["INTERNAL", "PLAN_INVALID"])
    def test_a_malformed_request_gets_the_policy_s_reason(self, world: World, reason: str) -> None:
        """The parser's exception stays inside; the handler never runs."""

        def parse(_message: bytes) -> NoReturn:
            raise ValueError(SECRET)

        handler: Any = grpc.unary_unary_rpc_method_handler(
            lambda _request, _context: pytest.fail("the handler ran"), request_deserializer=parse
        )
        policy = world.policy(malformed_reason=reason)
        server = world.serve({"Get": handler}, policy=policy)
        told = failure(world.channel(server), "Get", b"bytes")
        assert (told.reason, told.message) == (
            reason,
            "the request is not the declared message",
        )

    def test_a_call_without_a_request_gets_the_policy_s_reason(self, world: World) -> None:
        """A stream of none is not a request."""
        policy = world.policy(malformed_reason="PLAN_INVALID")
        server = world.serve({"Get": lambda request, _context: request}, policy=policy)
        method = world.channel(server).stream_unary(full("Get"))
        with pytest.raises(grpc.RpcError) as caught:
            method(iter(()), timeout=10)
        assert decode_rpc_error(caught.value).reason == "PLAN_INVALID"

    def test_a_request_over_the_limit_is_refused_by_size(self, world: World) -> None:
        """The handler never sees it, and no incident is made of it."""
        server = world.serve({"Get": lambda request, _context: request}, message_max_bytes=1000)
        assert failure(world.channel(server), "Get", b"x" * 1001).code == "RESOURCE_EXHAUSTED"
        assert call(world.channel(server), "Get", b"x" * 900) == b"x" * 900
        assert "unhandled_exception" not in world.log.getvalue()
