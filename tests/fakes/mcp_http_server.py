"""MCP over HTTP: a server built with the protocol's own library, and one that answers anything."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/json"
EVENTS = "text/event-stream"
WORK = {"name": "work", "inputSchema": {"type": "object"}}


@dataclass(slots=True)
class Reply:
    """What a POST is answered with. `cut` closes the connection short of the body's end."""

    status: int = 200
    kind: str = JSON
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass(slots=True)
class HttpPeer:
    """A server whose answers to `tools/call` are `call`'s. `received` is all that came.

    `tools` returns what it lists, or what it answers instead.
    """

    url: str
    call: Callable[[dict[str, Any]], Reply | None]
    tools: Callable[[], list[dict[str, Any]] | Reply] = lambda: [WORK]
    received: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def called(self) -> int:
        """Return how many calls came."""
        return self.asked("tools/call")

    def asked(self, method: str) -> int:
        """Return how many requests of this method came."""
        return sum(
            isinstance(body, dict) and body.get("method") == method for _, _, body in self.received
        )


def result(request: dict[str, Any], value: object) -> Reply:
    """Return an honest answer to a request."""
    message = {"jsonrpc": "2.0", "id": request["id"], "result": value}
    return Reply(body=json.dumps(message).encode())


def done(request: dict[str, Any]) -> Reply:
    """Return the answer of a tool that has done its work."""
    return result(request, {"content": [{"type": "text", "text": "done"}]})


def shake_hands(peer: HttpPeer, method: str, body: dict[str, Any]) -> Reply:
    """Return the answer to what comes before a call."""
    if method == "initialize":
        described = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "peer", "version": "1"},
        }
        reply = result(body, described)
        reply.headers["mcp-session-id"] = "session-1"
        return reply
    if method == "tools/list":
        tools = peer.tools()
        return tools if isinstance(tools, Reply) else result(body, {"tools": tools})
    error = {"code": -32601, "message": "no such method"}
    return Reply(400, body=json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode())


def answer(peer: HttpPeer, body: dict[str, Any]) -> Reply | None:
    """Return the answer to one message."""
    if body["method"] == "tools/call":
        return peer.call(body)
    return shake_hands(peer, body["method"], body) if "id" in body else Reply(202)


class Server(ThreadingHTTPServer):
    """A server whose connections end with it."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self.connections.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        """Stop to listen, and end every connection."""
        super().server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def http_peer(call: Callable[[dict[str, Any]], Reply | None] = done) -> Iterator[HttpPeer]:
    """Run a server that speaks the older generation and shows one tool, `work`."""
    peer = HttpPeer("", call)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            self._receive(None)
            self._reply(Reply(405))

        def do_DELETE(self) -> None:
            self._receive(None)
            self._reply(Reply(200))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._receive(body)
            reply = answer(peer, body)
            if reply is not None:
                self._reply(reply)
            self.close_connection = reply is None or reply.cut

        def _receive(self, body: object) -> None:
            peer.received.append((self.command, dict(self.headers.items()), body))

        def _reply(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("content-type", reply.kind)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) + (100 if reply.cut else 0)
            self.send_header("content-length", str(length))
            self.end_headers()
            self.wfile.write(reply.body)
            if reply.cut:
                self.wfile.flush()

    server = Server(Handler)
    peer.url = f"http://127.0.0.1:{server.server_address[1]}/mcp"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
