"""A server that speaks just enough HTTP/2 to end a gRPC call in ways that no library would.

It takes one connection over mTLS, describes the trial domain on its first stream, reads the call on
its second to the end and then sends what its ending says.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Thread

from stagegate.domain.v1.domain_service_pb2 import DescribeResponse

from tests.fakes.remote_domain import described
from tests.harness.pki import Pki

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_DESCRIBED, _STREAM = 1, 3
_PREFACE_BYTES = 24
_HEAD_BYTES = 9


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def _headers(*fields: tuple[bytes, bytes], end: bool, stream: int = _STREAM) -> bytes:
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
    )
    return _frame(_HEADERS, _END_HEADERS | (_END_STREAM if end else 0), stream, block)


def _reset(code: int) -> bytes:
    return _frame(_RST_STREAM, 0, _STREAM, struct.pack(">I", code))


_BEGIN = _headers((b":status", b"200"), (b"content-type", b"application/grpc"), end=False)
_OK = _headers((b"grpc-status", b"0"), end=True)
_MESSAGE = b"\0\0\0\0\4\x0a\2{}"

SILENCES: Mapping[str, bytes] = {
    "reset_internal": _reset(2),
    "reset_refused": _reset(7),
    "reset_cancel": _reset(8),
    "reset_after_headers": _BEGIN + _reset(2),
    "proxy_502": _headers((b":status", b"502"), end=True),
    "proxy_503": _headers((b":status", b"503"), end=True),
    "proxy_404": _headers((b":status", b"404"), end=True),
    "proxy_page": _headers((b":status", b"200"), (b"content-type", b"text/html"), end=False)
    + _frame(_DATA, _END_STREAM, _STREAM, b"<html>"),
    "message_without_status": _BEGIN + _frame(_DATA, _END_STREAM, _STREAM, _MESSAGE),
    "going_away": _frame(_GOAWAY, 0, 0, struct.pack(">II", 0, 0)),
    "not_http2": b"HTTP/1.1 200 OK\r\n\r\n" * 10,
    "half_a_message_then_closed": _BEGIN + _frame(_DATA, 0, _STREAM, _MESSAGE[:-2]),
    "closed": b"",
}
"""Endings after which nobody knows what the method did."""

WITHOUT_MESSAGE: bytes = _BEGIN + _OK
"""A status that says all is well, and no message."""


def _description() -> bytes:
    message = DescribeResponse(methods=described().values()).SerializeToString()
    kind = (b"content-type", b"application/grpc")
    return (
        _headers((b":status", b"200"), kind, end=False, stream=_DESCRIBED)
        + _frame(_DATA, 0, _DESCRIBED, b"\0" + struct.pack(">I", len(message)) + message)
        + _headers((b"grpc-status", b"0"), end=True, stream=_DESCRIBED)
    )


_CLOSING = ("half_a_message_then_closed", "closed")


def _serve(listener: socket.socket, context: ssl.SSLContext, ending: bytes, *, close: bool) -> None:
    # A test that is over closes the connection wherever this stands.
    with suppress(OSError, ssl.SSLError):
        raw, _ = listener.accept()
        with context.wrap_socket(raw, server_side=True) as connection:
            read = connection.makefile("rb").read
            read(_PREFACE_BYTES)
            connection.sendall(_frame(_SETTINGS, 0, 0))
            while len(head := read(_HEAD_BYTES)) == _HEAD_BYTES:
                read(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == _SETTINGS and not flags & _ACK:
                    connection.sendall(_frame(_SETTINGS, _ACK, 0))
                if kind == _DATA and flags & _END_STREAM:
                    if int.from_bytes(head[5:], "big") == _DESCRIBED:
                        connection.sendall(_description())
                        continue
                    connection.sendall(ending)
                    if close:
                        return


@contextmanager
def http2_peer(keys: Pki, ending: bytes, *, close: bool = False) -> Iterator[str]:
    """Listen as the server `trial`, and yield the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.file("trial-server.crt"), keys.file("trial-server.key"))
    context.load_verify_locations(keys.file("ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # It ends with the connection, which the other side keeps for as long as it likes.
        Thread(
            target=_serve, args=(listener, context, ending), kwargs={"close": close}, daemon=True
        ).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def closes(name: str) -> bool:
    """Say whether an ending of this name closes the connection too."""
    return name in _CLOSING
