"""A listener whose certificate files are replaced while it serves: real handshakes, real calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from servicekit.serving.admission import Bounds
from servicekit.serving.channel import open_channel
from servicekit.serving.rotation import rotating_server_credentials
from servicekit.serving.tls import server_credentials
from tests.component.servicekit.certified_files import serial_shown_by, server_files
from tests.component.servicekit.serving_world import (
    NOW,
    SERVER_NAME,
    Authority,
    Gate,
    World,
    call,
    failure,
)
from tests.harness.rotation import put

ROTATIONS = 12
CALLERS = 4


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Answer with the request."""
    return request


def test_every_handshake_shows_what_the_files_hold(world: World) -> None:
    """Two listeners of one certificate, as Stage-3 has them, follow the files each by itself."""
    files = server_files(world.authority)
    servers = [
        world.serve({"Get": echo}, credentials=rotating_server_credentials(files.rotation))
        for _ in range(2)
    ]
    for _ in range(3):
        for server in servers:
            assert serial_shown_by(server, world.authority) == files.serial()
        files.rotate()
    for server in reversed(servers):
        assert serial_shown_by(server, world.authority) == files.serial()


def test_without_rotation_the_first_certificate_stays(world: World) -> None:
    """The control: credentials that never change show the old one to a new handshake."""
    files = server_files(world.authority)
    used = files.files
    fixed = server_credentials(used.certificate_file, used.key_file, used.authority_file, now=NOW)
    server = world.serve({"Get": echo}, credentials=fixed)
    before = files.serial()
    assert files.rotate() != before
    assert serial_shown_by(server, world.authority) == before


def test_calls_under_way_end_on_the_connection_they_began_on(world: World) -> None:
    """A call inside a handler outlives the certificate that its connection began with."""
    files = server_files(world.authority)
    gate = Gate()
    server = world.serve(
        {"Get": gate, "Now": echo}, credentials=rotating_server_credentials(files.rotation)
    )
    channel = world.channel(server)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(call, channel, "Get")
        gate.wait_until_entered(1)
        fresh = files.rotate()
        assert serial_shown_by(server, world.authority) == fresh
        assert call(channel, "Now", b"the old connection serves on") == (
            b"the old connection serves on"
        )
        gate.open.set()
        assert under_way.result(10) == b"through"


@pytest.mark.slow
def test_no_call_fails_while_certificates_are_replaced_under_load(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """A dozen rotations, beside callers that shake hands for each call and callers that do not.

    Key and certificate are two files, so handshakes also fall between the two replacements.
    """
    files = server_files(world.authority)
    server = world.serve(
        {"Get": echo},
        credentials=rotating_server_credentials(files.rotation),
        bounds=Bounds(16, 64),
    )
    credentials = world.authority.caller("client/alice")
    over = threading.Event()

    def shaking_hands() -> int:
        made = 0
        while not over.is_set():
            with open_channel(server.address, credentials, SERVER_NAME) as channel:
                assert call(channel, "Get", b"x") == b"x"
            made += 1
        return made

    def keeping() -> int:
        made = 0
        with open_channel(server.address, credentials, SERVER_NAME) as channel:
            while not over.is_set():
                assert call(channel, "Get", b"x") == b"x"
                made += 1
        return made

    with ThreadPoolExecutor(2 * CALLERS) as pool:
        loads = [pool.submit(load) for load in (shaking_hands, keeping) for _ in range(CALLERS)]
        try:
            shown = []
            for _ in range(ROTATIONS):
                fresh = files.rotate()
                shown.append(serial_shown_by(server, world.authority) == fresh)
        finally:
            over.set()
        made = [load.result(60) for load in loads]
    assert shown == [True] * ROTATIONS
    assert min(made) > 0
    assert files.events().count("certificate_replaced") == ROTATIONS
    record_property(
        "figure",
        f"{ROTATIONS} rotations beside {2 * CALLERS} callers: none of {sum(made)} calls failed",
    )


def test_a_broken_rotation_keeps_serving_the_old_certificate(world: World) -> None:
    """However many shake hands meanwhile, one line says what is wrong; the repair needs no hand."""
    files = server_files(world.authority)
    server = world.serve({"Get": echo}, credentials=rotating_server_credentials(files.rotation))
    before = files.serial()
    whole = files.files.certificate_file.read_bytes()
    files.files.certificate_file.write_bytes(whole[: len(whole) // 2])

    for _ in range(5):
        assert serial_shown_by(server, world.authority) == before
        assert call(world.channel(server), "Get", b"x") == b"x"
    assert files.events() == ["certificate_not_replaced"]

    assert serial_shown_by(server, world.authority) == before
    assert files.rotate() == serial_shown_by(server, world.authority) != before


def test_a_replaced_client_authority_decides_the_next_handshake(
    world: World, tmp_path: Path
) -> None:
    """Whom a listener lets in follows the file too; an open connection is not ended by it."""
    files = server_files(world.authority)
    server = world.serve({"Get": echo}, credentials=rotating_server_credentials(files.rotation))
    other = Authority(tmp_path / "other")
    # It trusts the server: only the listener's choice is tried.
    stranger = grpc.ssl_channel_credentials(
        world.authority.file.read_bytes(),
        (other.directory / "client.key").read_bytes(),
        (other.directory / "client.crt").read_bytes(),
    )
    known = world.channel(server)
    assert call(known, "Get", b"x") == b"x"
    assert failure(world.channel(server, stranger), "Get").code == "UNAVAILABLE"

    put(other.file, files.files.authority_file)

    assert call(world.channel(server, stranger), "Get", b"x") == b"x"
    assert failure(world.channel(server), "Get").code == "UNAVAILABLE"
    assert call(known, "Get", b"x") == b"x"
