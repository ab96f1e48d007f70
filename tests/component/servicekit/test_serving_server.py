"""Listeners: their ports, their credentials, their probes and their end."""

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # ships no types
    reflection_pb2,
)

from servicekit.serving.address import AddressRefused
from servicekit.serving.channel import open_channel
from servicekit.serving.health import HEALTH_METHODS, HEALTH_SERVICE, WATCHES_MAX, HealthBoard
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.method_table import MethodTable, Rule
from servicekit.serving.policy import AccessPolicy
from servicekit.serving.reflection import reflection_rules
from servicekit.serving.server import ListenRefused, PortUnavailable, RunningServer
from tests.component.servicekit.serving_world import (
    SERVER_NAME,
    TRUST_DOMAIN,
    Gate,
    World,
    call,
    failure,
    full,
    uri,
)
from tests.harness.reserved_ports import ReservedPort

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CLIENTS = frozenset({IdentityKind.CLIENT})


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Answer with the request."""
    return request


class TestPort:
    """A port belongs to one listener."""

    def test_a_busy_port_is_an_error_that_names_the_address(self, world: World) -> None:
        """The second listener does not share the port silently, and says what to do."""
        first = world.serve({"Get": echo})
        with pytest.raises(PortUnavailable) as caught:
            world.serve({"Get": echo}, name="plans", address=first.address)
        assert str(caught.value) == (
            f"the plans listener cannot bind {first.address}. "
            "Stop the process that listens there (`ss -ltnp` shows it), or set another address: "
            "listen.plans in the settings."
        )

    def test_port_zero_is_answered_with_the_port_that_was_bound(self, world: World) -> None:
        """The address of a listener is one that can be called."""
        server = world.serve({"Get": echo})
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"
        assert call(world.channel(server), "Get", b"x") == b"x"

    def test_an_ipv6_loopback_can_be_served(self, world: World) -> None:
        """The address is written in brackets and stays callable."""
        server = world.serve({"Get": echo}, address="[::1]:0")
        assert server.address == f"[::1]:{server.port}"
        assert call(world.channel(server), "Get", b"x") == b"x"


class TestInsecure:
    """Without certificates, only on loopback and only by name."""

    def assumed(self, world: World) -> AccessPolicy:
        """Return access for one assumed identity."""
        return AccessPolicy(
            TRUST_DOMAIN,
            MethodTable({full("Get"): Rule(CLIENTS)}),
            now_us=lambda: 0,
            assumed_identity=Identity(IdentityKind.CLIENT, "local", uri("client/local")),
        )

    @pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.test:0"])
    def test_an_insecure_listener_off_loopback_is_refused(self, world: World, address: str) -> None:
        """No policy makes it acceptable; nothing is bound."""
        with pytest.raises(AddressRefused, match="not a loopback address"):
            world.serve(
                {"Get": echo},
                address=address,
                credentials=None,
                policy=world.policy(access=self.assumed(world)),
            )

    def test_an_insecure_channel_off_loopback_is_refused(self) -> None:
        """The same holds for a caller: nothing leaves this machine in the clear."""
        with pytest.raises(AddressRefused, match="not a loopback address"):
            open_channel("192.0.2.1:7403", None, SERVER_NAME)

    def test_an_insecure_loopback_listener_assumes_the_identity_it_was_given(
        self, world: World
    ) -> None:
        """The assumed caller passes the same method table as any other."""
        server = world.serve(
            {"Get": echo, "Hidden": echo},
            credentials=None,
            policy=world.policy(access=self.assumed(world)),
        )
        channel = open_channel(server.address, None, SERVER_NAME)
        world.channels.append(channel)
        assert call(channel, "Get", b"x") == b"x"
        assert failure(channel, "Hidden").reason == "METHOD_NOT_PERMITTED"

    def test_certificates_beside_an_assumed_identity_are_refused(self, world: World) -> None:
        """A listener that demanded certificates and then ignored them would look safe."""
        with pytest.raises(ListenRefused, match="verify certificates or assume"):
            world.serve({"Get": echo}, policy=world.policy(access=self.assumed(world)))

    def test_no_certificates_and_no_assumed_identity_are_refused(self, world: World) -> None:
        """Every call would be refused: that is a mistake, not a listener."""
        with pytest.raises(ListenRefused, match="verify certificates or assume"):
            world.serve({"Get": echo}, credentials=None)

    def test_certificates_without_access_are_refused(self, world: World) -> None:
        """A listener with certificates that asks nobody is refused at start."""
        with pytest.raises(ListenRefused, match="asks nobody"):
            world.serve({"Get": echo}, policy=world.policy(access=None))


def watch_and_take_nothing(server: RunningServer) -> socket.socket:
    """Watch the whole server's health with an HTTP/2 window of zero: no message can be sent."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + struct.pack(
            f">BBI{len(payload)}s", kind, flags, stream, payload
        )

    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/grpc.health.v1.Health/Watch",
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    fields = b"".join(
        bytes([0, len(name)]) + name + bytes([len(value)]) + value
        for name, value in headers.items()
    )
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, struct.pack(">HI", 4, 0))
        + frame(1, 4, 1, fields)
        + frame(0, 1, 1, bytes(5))
    )
    return connection


class TestHealth:
    """What probes are told."""

    def probe(self, world: World, board: HealthBoard) -> RunningServer:
        """Serve a board to anybody on loopback."""
        return world.serve(
            {}, credentials=None, policy=world.policy(access=None), services=[board.register]
        )

    def stub(self, world: World, server: RunningServer) -> Any:
        """Connect as a probe."""
        channel = open_channel(server.address, None, SERVER_NAME)
        world.channels.append(channel)
        return health_pb2_grpc.HealthStub(channel)

    def check(self, stub: Any, service: str) -> int:
        """Ask for one service."""
        request = health_pb2.HealthCheckRequest(service=service)
        status: int = stub.Check(request, timeout=10).status
        return status

    def test_nothing_is_serving_until_it_is_set_and_each_service_is_told_apart(
        self, world: World
    ) -> None:
        """The whole server is serving when every service is."""
        board = HealthBoard(("plans", "operators"))
        stub = self.stub(world, self.probe(world, board))

        def told() -> list[int]:
            return [self.check(stub, service) for service in ("", "plans", "operators")]

        assert told() == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
        board.set_serving("plans", serving=True)
        assert told() == [NOT_SERVING, SERVING, NOT_SERVING]
        board.set_serving("operators", serving=True)
        assert told() == [SERVING, SERVING, SERVING]
        assert board.is_serving()
        board.set_serving("plans", serving=False)
        assert told() == [NOT_SERVING, NOT_SERVING, SERVING]

    def test_a_closed_board_never_serves_again(self, world: World) -> None:
        """A service that becomes ready during a drain does not undo the drain."""
        board = HealthBoard(("plans",))
        stub = self.stub(world, self.probe(world, board))
        board.set_all_serving()
        board.close()
        board.set_serving("plans", serving=True)
        assert [self.check(stub, service) for service in ("", "plans")] == [NOT_SERVING] * 2
        assert not board.is_serving("plans")

    def test_an_unknown_service_is_not_found(self, world: World) -> None:
        """A probe with a misspelled name must not look healthy, nor a setter pass silently."""
        board = HealthBoard(("plans",))
        stub = self.stub(world, self.probe(world, board))
        with pytest.raises(grpc.RpcError) as caught:
            self.check(stub, "plan")
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(KeyError):
            board.set_serving("plan", serving=True)

    def test_a_watcher_hears_every_change_without_holding_a_thread(self, world: World) -> None:
        """More watchers than threads, and checks are still answered."""
        board = HealthBoard(("plans",))
        stub = self.stub(world, self.probe(world, board))
        request = health_pb2.HealthCheckRequest(service="plans")
        watchers = []
        for _ in range(12):
            watchers.append(stub.Watch(request, timeout=30))
            assert next(watchers[-1]).status == NOT_SERVING
        board.set_serving("plans", serving=True)
        assert [next(watcher).status for watcher in watchers] == [SERVING] * 12
        assert self.check(stub, "plans") == SERVING
        for watcher in watchers:
            watcher.cancel()

    def test_a_watcher_that_takes_no_message_holds_up_nobody(self, world: World) -> None:
        """Probes are answered, the status is changed and the server ends, beside a stuck caller."""
        board = HealthBoard(("plans",))
        server = self.probe(world, board)
        stub = self.stub(world, server)
        with watch_and_take_nothing(server):
            witness = stub.Watch(health_pb2.HealthCheckRequest(service="plans"), timeout=30)
            assert next(witness).status == NOT_SERVING
            board.set_all_serving()
            assert next(witness).status == SERVING
            assert self.check(stub, "plans") == SERVING
            board.close()
            assert server.stop(0.1)

    def test_watchers_are_told_of_the_end_and_not_waited_for(self, world: World) -> None:
        """A drain lasts as long as the calls under way, not as long as somebody watches."""
        board = HealthBoard(("plans",))
        server = self.probe(world, board)
        board.set_all_serving()
        watcher = self.stub(world, server).Watch(
            health_pb2.HealthCheckRequest(service="plans"), timeout=30
        )
        assert next(watcher).status == SERVING
        began_s = time.monotonic()
        board.close()
        assert [said.status for said in watcher] == [NOT_SERVING]
        assert server.stop(20)
        assert time.monotonic() - began_s < 10

    def test_a_watcher_too_many_is_refused_and_a_place_is_given_back(self, world: World) -> None:
        """What one server keeps for its watchers is bounded; those there stay."""
        board = HealthBoard(("plans",))
        stub = self.stub(world, self.probe(world, board))
        request = health_pb2.HealthCheckRequest(service="no such service")
        watchers = [stub.Watch(request, timeout=30) for _ in range(WATCHES_MAX)]
        for watcher in watchers:
            assert next(watcher).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(request, timeout=30))
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watchers[0].cancel()
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            try:
                next(stub.Watch(request, timeout=30))
            except grpc.RpcError:
                continue
            break
        else:
            pytest.fail("the place of a watcher that left was not given back")

    def test_behind_a_method_table_only_those_permitted_may_ask(self, world: World) -> None:
        """Health on a listener with certificates is a service like any other."""
        board = HealthBoard(("plans",))
        rules = dict.fromkeys(HEALTH_METHODS, Rule(frozenset({IdentityKind.STAGE4})))
        server = world.serve({}, policy=world.policy(rules), services=[board.register])
        stage4 = health_pb2_grpc.HealthStub(world.channel(server, world.authority.caller("stage4")))
        client = health_pb2_grpc.HealthStub(world.channel(server))
        assert self.check(stage4, "plans") == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            self.check(client, "plans")
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED


class TestReflection:
    """Off unless asked for, and then in the table like everything else."""

    def ask(self, channel: Any, version: str) -> list[str]:
        """List the services by this version of the protocol."""
        method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = list(
            method(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]), timeout=10)
        )
        return sorted(each.name for each in answers[0].list_services_response.service)

    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    def test_both_versions_list_the_services(self, world: World, version: str) -> None:
        """Current tools ask for v1, older ones for v1alpha."""
        policy = world.policy(dict(reflection_rules(CLIENTS)))
        server = world.serve({}, policy=policy, reflection=(HEALTH_SERVICE,))
        assert HEALTH_SERVICE in self.ask(world.channel(server), version)

    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    def test_without_a_rule_nobody_reflects(self, world: World, version: str) -> None:
        """Registering it is not permitting it."""
        server = world.serve({"Get": echo}, reflection=(HEALTH_SERVICE,))
        with pytest.raises(grpc.RpcError) as caught:
            self.ask(world.channel(server), version)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED

    def test_callers_that_reflect_for_ever_take_no_place_of_the_server(self, world: World) -> None:
        """More open streams than the server holds calls, and calls are still answered."""
        policy = world.policy({full("Get"): Rule(CLIENTS), **reflection_rules(CLIENTS)})
        server = world.serve({"Get": echo}, policy=policy, reflection=(HEALTH_SERVICE,))
        channel = world.channel(server)
        method = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        enough = threading.Event()

        def nothing() -> Iterator[bytes]:
            enough.wait(10)
            yield from ()

        streams = [method(nothing(), timeout=20) for _ in range(12)]
        assert call(channel, "Get", b"x") == b"x"
        enough.set()
        for stream in streams:
            stream.cancel()


class TestStop:
    """The end of a listener."""

    def test_a_call_in_flight_finishes_within_the_grace(self, world: World) -> None:
        """The answer arrives, new calls do not get in, and the listener says it is drained."""
        gate = Gate()
        server = world.serve({"Get": gate})
        channel = world.channel(server)
        held = channel.unary_unary(full("Get")).future(b"", timeout=30)
        gate.wait_until_entered(1)
        drained: list[bool] = []
        stopping = threading.Thread(target=lambda: drained.append(server.stop(30)))
        stopping.start()
        while failure(world.channel(server), "Get", timeout=10).code != "UNAVAILABLE":
            pass
        gate.open.set()
        assert held.result(timeout=10) == b"through"
        stopping.join(timeout=10)
        assert drained == [True]

    def test_a_handler_that_does_not_end_is_reported(self, world: World) -> None:
        """The caller is cancelled after the grace; stop returns and says a thread still runs."""
        gate = Gate()
        server = world.serve({"Get": gate})
        held = world.channel(server).unary_unary(full("Get")).future(b"", timeout=30)
        gate.wait_until_entered(1)
        assert server.stop(0.05) is False
        error: Any = held.exception(timeout=10)
        assert error.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        gate.open.set()

    def test_a_listener_that_stopped_gives_its_port_back(self, world: World) -> None:
        """The same address can be bound again at once."""
        with ReservedPort() as address:
            first = world.serve({"Get": echo}, address=address)
            assert first.stop(0) is True
            second = world.serve({"Get": echo}, address=address)
            assert call(world.channel(second), "Get", b"x") == b"x"


def test_a_foreign_client_can_call(world: World, tmp_path: Path) -> None:
    """`buf curl`, another implementation of gRPC, reads health with a certificate of its own."""
    buf = Path(__file__).parents[3] / ".venv" / "bin" / "buf"
    if not buf.exists():
        pytest.skip("buf is not installed in .venv")
    board = HealthBoard(("plans",))
    rules = dict.fromkeys(HEALTH_METHODS, Rule(CLIENTS)) | dict(reflection_rules(CLIENTS))
    server = world.serve(
        {}, policy=world.policy(rules), services=[board.register], reflection=(HEALTH_SERVICE,)
    )
    directory = world.authority.directory
    answer = subprocess.run(
        [
            str(buf), "curl", "--protocol", "grpc",
            "--cacert", str(directory / "ca.crt"),
            "--cert", str(directory / "client.crt"), "--key", str(directory / "client.key"),
            "--servername", SERVER_NAME, "--data", '{"service": "plans"}',
            f"https://{server.address}/{HEALTH_SERVICE}/Check",
        ],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "NOT_SERVING" in answer.stdout
