"""A caller whose certificate files are replaced between, during and beside its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from servicekit.certificates import create_authority, issue_caller
from servicekit.serving.channel import open_channel
from servicekit.serving.rotating_connection import RotatingConnection
from servicekit.serving.server import RunningServer
from tests.component.servicekit.certified_files import CertifiedFiles, caller_files
from tests.component.servicekit.serving_world import (
    NOW,
    SERVER_NAME,
    TRUST_DOMAIN,
    Gate,
    World,
    call,
    uri,
)
from tests.harness.reserved_ports import ReservedPort
from tests.harness.rotation import put_pair, serial_of

READY_S = 10.0


@pytest.fixture
def port() -> Iterator[ReservedPort]:
    """Keep a port for a server that goes away and comes back."""
    reserved = ReservedPort()
    yield reserved
    reserved.close()


def serial_seen(_request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer with the serial number of the certificate that the caller showed."""
    peer: Any = context.auth_context()
    return str(serial_of(peer["x509_pem_cert"][0])).encode()


@contextmanager
def connected(files: CertifiedFiles, server: RunningServer) -> Iterator[RotatingConnection]:
    """Connect with what the files hold at any time."""
    connections = RotatingConnection(
        files.rotation, lambda credentials: open_channel(server.address, credentials, SERVER_NAME)
    )
    yield connections
    connections.close()


def ask(connections: RotatingConnection, method: str = "Serial") -> bytes:
    """Make one call, as the services do: on the connection in use, once it stands."""
    with connections.using() as connection:
        assert connection.wait_until_ready(READY_S)
        return call(connection.channel, method)


def ask_until(connections: RotatingConnection, is_over: Callable[[int], bool]) -> int:
    """Ask until an answer is accepted; the suite's own time limit ends it otherwise."""
    while not is_over(serial := int(ask(connections))):
        pass
    return serial


def test_the_next_connection_shows_the_new_certificate(world: World) -> None:
    """It is made beside the old one and takes over once it stands; nothing is restarted."""
    files = caller_files(world.authority)
    server = world.serve({"Serial": serial_seen})
    with connected(files, server) as connections:
        before = files.serial()
        assert [int(ask(connections)) for _ in range(3)] == [before] * 3
        for _ in range(3):
            fresh = files.rotate()
            assert ask_until(connections, fresh.__eq__) == fresh


def test_without_rotation_the_old_certificate_is_shown(world: World) -> None:
    """The control: a channel keeps the certificate that it was opened with."""
    files = caller_files(world.authority)
    server = world.serve({"Serial": serial_seen})
    before = files.serial()
    with connected(files, server) as connections, connections.using() as kept:
        assert kept.wait_until_ready(READY_S)
        files.rotate()
        assert int(call(kept.channel, "Serial")) == before


def test_a_call_under_way_ends_where_it_began(world: World) -> None:
    """The old connection serves its calls to their end, closed though it is."""
    files = caller_files(world.authority)
    gate = Gate()
    server = world.serve({"Serial": serial_seen, "Wait": gate})
    with connected(files, server) as connections, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(ask, connections, "Wait")
        gate.wait_until_entered(1)
        fresh = files.rotate()
        ask_until(connections, fresh.__eq__)
        assert not under_way.done()
        gate.open.set()
        assert under_way.result(10) == b"through"


def test_where_no_connection_stands_the_next_is_the_new_certificates(
    world: World, port: ReservedPort
) -> None:
    """Nothing is tried with the old certificate once there is a new one."""
    files = caller_files(world.authority)
    address = port.address
    server = world.serve({"Serial": serial_seen}, address=address)
    with connected(files, server) as connections:
        ask(connections)
        server.stop(0)
        with connections.using() as connection:
            while connection.is_ready:
                threading.Event().wait(0.01)
        fresh = files.rotate()
        with connections.using() as connection:
            assert not connection.wait_until_ready(0.2)
        world.serve({"Serial": serial_seen}, address=address)
        assert int(ask(connections)) == fresh


def test_a_certificate_that_the_server_refuses_does_not_end_the_connection(
    world: World, tmp_path: Path
) -> None:
    """Only a handshake tells that the server does not know the authority; until then, the old."""
    files = caller_files(world.authority)
    server = world.serve({"Serial": serial_seen})
    create_authority(tmp_path / "other", TRUST_DOMAIN, NOW)
    issue_caller(tmp_path / "other", "alice", uri("client/alice"), NOW)
    with connected(files, server) as connections:
        before = int(ask(connections))
        put_pair(tmp_path / "other" / "alice", files.authority.directory / "used")
        assert [int(ask(connections)) for _ in range(5)] == [before] * 5

        fresh = files.rotate()
        assert ask_until(connections, fresh.__eq__) == fresh


@pytest.mark.slow
def test_no_call_fails_while_certificates_are_replaced_under_load(world: World) -> None:
    """A dozen rotations beside eight threads that call without a pause."""
    files = caller_files(world.authority)
    server = world.serve({"Serial": serial_seen})
    over = threading.Event()
    with connected(files, server) as connections, ThreadPoolExecutor(8) as pool:

        def calling() -> set[int]:
            seen = set()
            while not over.is_set():
                seen.add(int(ask(connections)))
            return seen

        loads = [pool.submit(calling) for _ in range(4)]
        expected = {fresh := files.serial()}
        try:
            for _ in range(12):
                fresh = files.rotate()
                expected.add(ask_until(connections, fresh.__eq__))
        finally:
            over.set()
        seen = set().union(*(load.result(60) for load in loads))
    assert fresh in seen
    assert seen <= expected
