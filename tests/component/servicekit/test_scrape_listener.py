"""Real sockets against the scrape listener: what it answers, and who cannot keep it from that."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from servicekit.serving.address import AddressRefused
from servicekit.serving.scrape_listener import (
    CONNECTIONS_MAX,
    RENDER_EVERY_S,
    REQUEST_MAX_BYTES,
    ScrapeListener,
)
from servicekit.serving.server import PortUnavailable
from tests.fakes.manual_clock import ManualClock
from tests.harness.scrape import fetch

BODY = b"x" * 3_000_000


class World:
    """A listener whose readiness is a field, and which counts the scrapes it makes."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.ready = True
        self.scrapes = 0
        self.monotonic_s = monotonic_s
        self.listener = listen("127.0.0.1:0", self)

    @property
    def address(self) -> str:
        """Return where it listens."""
        return self.listener.address

    def connect(self) -> socket.socket:
        """Return a connection that has said nothing yet."""
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), 10)

    def text(self) -> bytes:
        """Make one scrape."""
        self.scrapes += 1
        return BODY


def listen(address: str, world: World) -> ScrapeListener:
    """Bind a listener."""
    return ScrapeListener(
        address,
        metrics=world.text,
        content_type="text/plain",
        ready=lambda: world.ready,
        monotonic_s=world.monotonic_s,
    )


@contextmanager
def running(made: World) -> Iterator[World]:
    """Run its listener."""
    made.listener.start()
    yield made
    made.listener.stop()


@pytest.fixture
def world() -> Iterator[World]:
    """Run a listener."""
    with running(World()) as made:
        yield made


def test_it_answers_three_paths_and_no_other(world: World) -> None:
    """Alive, ready, and the metrics, whole even where they are megabytes."""
    assert fetch(world.address, "/healthz") == (200, "alive\n")
    assert fetch(world.address, "/readyz") == (200, "ready\n")
    assert fetch(world.address, "/metrics") == (200, BODY.decode())
    assert fetch(world.address, "/metrics?format=any")[0] == 200
    for path in ("/", "/debug", "/metrics/", "/metricsx", "//metrics", "/%6detrics"):
        assert fetch(world.address, path)[0] == 404, path


def test_readiness_is_asked_each_time(world: World) -> None:
    """503 from the moment on at which the service is not ready; alive it is all the same."""
    world.ready = False

    assert fetch(world.address, "/readyz") == (503, "not ready\n")
    assert fetch(world.address, "/healthz")[0] == 200


def test_head_is_get_without_the_body(world: World) -> None:
    """The length is told, the bytes are not."""
    assert fetch(world.address, "/metrics", "HEAD") == (200, "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get"])
def test_other_methods_are_not_allowed(world: World, method: str) -> None:
    """Nothing can be changed through this door, on any path."""
    assert fetch(world.address, "/metrics", method)[0] == 405


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"404"),
        (b"A" * (REQUEST_MAX_BYTES + 1), b"431"),
    ],
)
def test_what_is_no_request_is_answered_and_forgotten(
    world: World, asked: bytes, status: bytes
) -> None:
    """Garbage, TLS, too much: a status, and the next scraper finds all in order."""
    with world.connect() as connection:
        connection.sendall(asked)
        said = connection.recv(64)

    assert said.startswith(b"HTTP/1.1 " + status)
    assert fetch(world.address, "/healthz")[0] == 200


def test_scrapers_that_say_nothing_keep_nobody_out(world: World) -> None:
    """Several times as many slow connections as there are places, half of them in mid-request."""
    with ExitStack() as held:
        for number in range(4 * CONNECTIONS_MAX):
            connection = held.enter_context(world.connect())
            if number % 2:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")

        for _ in range(20):
            assert fetch(world.address, "/metrics") == (200, BODY.decode())


def test_scrapers_that_read_nothing_do_not_hold_up_a_stop() -> None:
    """A stop waits for nobody's network; the port is free afterwards."""
    made = World()
    made.listener.start()
    with ExitStack() as held:
        for _ in range(CONNECTIONS_MAX):
            connection = held.enter_context(made.connect())
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert fetch(made.address, "/healthz")[0] == 200
        made.listener.stop()

        again = listen(made.address, made)
        again.start()
        assert fetch(again.address, "/healthz")[0] == 200
        again.stop()


def test_a_scrape_is_made_for_many_scrapers_at_once() -> None:
    """Who asks without pause is told the same text again, and costs the service little."""
    clock = ManualClock()
    with running(World(clock.monotonic_s)) as world:
        made = []
        for _ in range(4):
            for _ in range(5):
                fetch(world.address, "/metrics", "HEAD")
                clock.advance(RENDER_EVERY_S / 6)
            made.append(world.scrapes)
            clock.advance(RENDER_EVERY_S)

    assert made == [1, 2, 3, 4]


def test_a_scrape_that_fails_is_an_error_and_no_end(world: World) -> None:
    """The thread outlives what a page does."""

    def broken() -> bytes:
        raise RuntimeError("no numbers today")

    world.listener._metrics = broken

    assert fetch(world.address, "/metrics")[0] == 500
    assert fetch(world.address, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_refused_with_what_to_do(world: World) -> None:
    """The sentence names the listener, the address and the setting."""
    with pytest.raises(PortUnavailable, match=r"metrics listener cannot bind 127\.0\.0\.1:\d+"):
        listen(world.address, world)
    with pytest.raises(PortUnavailable, match=r"listen\.metrics in the settings"):
        listen("192.0.2.1:0", world)


@pytest.mark.parametrize("address", ["9403", "127.0.0.1", "http://127.0.0.1:9403", ":9403"])
def test_an_address_that_is_none_is_refused(world: World, address: str) -> None:
    """As of every other listener."""
    with pytest.raises(AddressRefused):
        listen(address, world)


def test_one_that_never_started_can_be_stopped() -> None:
    """A service that could not be put together lets go of the port."""
    made = World()

    made.listener.stop()

    again = listen(made.address, made)
    assert again.address == made.address
    again.stop()
