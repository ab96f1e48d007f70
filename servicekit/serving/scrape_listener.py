"""Plain HTTP for scrapers and probes: `/metrics`, `/healthz`, `/readyz`, and nothing else.

One thread serves every connection and waits for none: a scraper that sends nothing, or reads
nothing, holds a place that is taken from it after some seconds, at once when somebody else needs
it. Nobody can hold up a stop. Deliberately absent: certificates, bodies, kept connections, and
every method but GET and HEAD.
"""

import os
import select
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Final

from servicekit.serving.address import Address, parse_address
from servicekit.serving.server import PortUnavailable

CONNECTIONS_MAX: Final = 64
"""Connections held at a time; one more takes the place of the oldest."""

CONNECTION_MAX_S: Final = 5.0
"""How long a scraper has, from its connection to the last byte of its answer."""

REQUEST_MAX_BYTES: Final = 8_192
RENDER_EVERY_S: Final = 0.1
"""A scrape younger than this is told again, so that no scraper can keep the process busy."""

STOP_S: Final = 1.0
"""How long a stop waits for a scrape that is being made; a hung disk makes one long."""

_CHUNK: Final = 65_536
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What one path answers."""

    status: int
    content_type: str
    body: bytes


class _Connection:
    __slots__ = ("asked", "began_s", "pending", "socket")

    def __init__(self, accepted: socket.socket, began_s: float) -> None:
        self.socket = accepted
        self.began_s = began_s
        self.asked = b""
        self.pending = memoryview(b"")


class ScrapeListener:
    """A bound listener; it holds its port from construction and answers from `start` on."""

    def __init__(
        self,
        address: str,
        *,
        metrics: Callable[[], bytes],
        content_type: str,
        ready: Callable[[], bool],
        monotonic_s: Callable[[], float],
    ) -> None:
        """Bind. `metrics` and `ready` are called in the listener's own thread.

        Raises:
            AddressRefused: the address is malformed.
            PortUnavailable: it cannot be bound.
        """
        wanted = parse_address(address)
        try:
            self._listening = _bind(wanted)
        except OSError:
            raise PortUnavailable(
                f"the metrics listener cannot bind {wanted.text}",
                "Stop the process that listens there (`ss -ltnp` shows it), or set another "
                "address: listen.metrics in the settings.",
            ) from None
        self.address = Address(wanted.host, self._listening.getsockname()[1]).text
        self._metrics = metrics
        self._content_type = content_type
        self._ready = ready
        self._monotonic_s = monotonic_s
        self._scrape: tuple[float, Page] | None = None
        # In the order of their arrival, so that the first one is the oldest.
        self._connections: dict[socket.socket, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._stopped, self._stop = os.pipe()
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread = Thread(target=self._serve, name="metrics", daemon=True)
        self._running = False
        self._stopping = False

    def start(self) -> None:
        """Begin to answer."""
        self._running = True
        self._thread.start()

    def stop(self) -> None:
        """Drop every connection and let go of the port, waiting for none. Repeat at will."""
        if self._stopping:
            return
        self._stopping = True
        if self._running:
            os.write(self._stop, b"\0")
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                return
        for connection in tuple(self._connections.values()):
            self._drop(connection)
        self._selector.close()
        self._listening.close()
        os.close(self._stop)
        os.close(self._stopped)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select(self._patience_s()):
                if key.fd == self._stopped:
                    return
                if key.fileobj is self._listening:
                    self._accept()
                elif (connection := self._connections.get(key.fileobj)) is not None:  # type: ignore[call-overload]  # a socket, the listening one aside
                    self._attend(connection)
            self._drop_overdue()

    def _patience_s(self) -> float | None:
        """Return how long the oldest connection has left, None where there is none."""
        for oldest in self._connections.values():
            return max(0.0, oldest.began_s + CONNECTION_MAX_S - self._monotonic_s())
        return None

    def _drop_overdue(self) -> None:
        now_s = self._monotonic_s()
        for connection in tuple(self._connections.values()):
            if now_s < connection.began_s + CONNECTION_MAX_S:
                return
            self._drop(connection)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError:
            # It is gone again, or no descriptor is left: then one of ours is given up, or there
            # is a moment's wait for one of the service's, which a stop ends.
            if self._connections:
                self._drop(next(iter(self._connections.values())))
            else:
                select.select([self._stopped], [], [], RENDER_EVERY_S)
            return
        accepted.settimeout(0)
        if len(self._connections) >= CONNECTIONS_MAX:
            self._drop(next(iter(self._connections.values())))
        self._connections[accepted] = _Connection(accepted, self._monotonic_s())
        self._selector.register(accepted, selectors.EVENT_READ)

    def _attend(self, connection: _Connection) -> None:
        try:
            if not connection.pending:
                self._read(connection)
            if connection.pending:
                sent = connection.socket.send(connection.pending[:_CHUNK])
                connection.pending = connection.pending[sent:]
                if not connection.pending:
                    connection.socket.shutdown(socket.SHUT_WR)
                    self._drop(connection)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        chunk = connection.socket.recv(REQUEST_MAX_BYTES + 1)
        connection.asked += chunk
        if len(connection.asked) > REQUEST_MAX_BYTES:
            answer = _response(_plain(431, "the request is too long"), with_body=True)
        elif b"\r\n\r\n" in connection.asked:
            answer = self._answer(connection.asked)
        elif not chunk:
            self._drop(connection)
            return
        else:
            return
        connection.pending = memoryview(answer)
        self._selector.modify(connection.socket, selectors.EVENT_WRITE)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.socket]
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _answer(self, asked: bytes) -> bytes:
        words = asked.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - method, target, version
            return _response(_plain(400, "an HTTP/1 request is expected"), with_body=True)
        method = words[0]
        if method not in {b"GET", b"HEAD"}:
            return _response(_plain(405, "GET or HEAD is expected"), with_body=True)
        path = words[1].partition(b"?")[0].decode("latin-1")
        return _response(self._page(path), with_body=method == b"GET")

    def _page(self, path: str) -> Page:
        try:
            if path == "/metrics":
                return self._scraped()
            if path == "/healthz":
                return _plain(200, "alive")
            if path == "/readyz":
                return _plain(200, "ready") if self._ready() else _plain(503, "not ready")
        except Exception:  # noqa: BLE001 - this thread outlives whatever a page does
            return _plain(500, "the page could not be made")
        return _plain(404, "there is /metrics, /healthz and /readyz")

    def _scraped(self) -> Page:
        now_s = self._monotonic_s()
        if self._scrape is None or now_s - self._scrape[0] >= RENDER_EVERY_S:
            self._scrape = (now_s, Page(200, self._content_type, self._metrics()))
        return self._scrape[1]


def _plain(status: int, sentence: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())


def _bind(wanted: Address) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        wanted.host, wanted.port, type=socket.SOCK_STREAM
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        # A port whose last connections still linger is free; one that is listened on is not.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(CONNECTIONS_MAX)
        listening.settimeout(0)
    except OSError:
        listening.close()
        raise
    return listening


def _response(page: Page, *, with_body: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if page.status == 405 else ""  # noqa: PLR2004 - the one that says what is allowed
    head = (
        f"HTTP/1.1 {page.status} {_PHRASES[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\n{allow}"
        "Connection: close\r\n\r\n"
    ).encode()
    return head + page.body if with_body else head
