"""A server built with the protocol's own library and served as its authors do: uvicorn and TLS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer

from servicekit.certificates import create_authority, issue_server

TRUST_DOMAIN = "mcp.test"


@dataclass(slots=True)
class HttpsServer:
    """A running server with one tool, `work`. `worked` is one entry for each call it carried."""

    url: str
    authority: Path
    served: MCPServer
    worked: list[str] = field(default_factory=list)
    posted: list[tuple[str, str | None]] = field(default_factory=list)
    """Each request's HTTP method, and the generation that its header names."""

    def describe(self, description: str) -> None:
        """Describe the tool in other words, and tell nobody."""
        if any(tool.name == "work" for tool in self.served._tool_manager.list_tools()):
            self.served.remove_tool("work")
        self.served.add_tool(self.work, name="work", description=description)

    def work(self, note: str = "worked") -> str:
        """Leave the effect that tests count."""
        self.worked.append(note)
        return "done"


@cache
def authority(name: str) -> Path:
    """Return the directory of an authority that certifies `localhost`; made once."""
    directory = Path(mkdtemp(prefix=f"stagegate-{name}-"))
    now = datetime.now(UTC)
    create_authority(directory, TRUST_DOMAIN, now)
    issue_server(directory, "server", "localhost", now)
    return directory


@contextmanager
def https_server(*, json_response: bool = False) -> Iterator[HttpsServer]:
    """Run the server on a port of the system's choosing."""
    keys = authority("authority")
    served = MCPServer("over-https")
    running = HttpsServer("", keys / "ca.crt", served)
    running.describe("Works.")
    inner = served.streamable_http_app(json_response=json_response)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            running.posted.append((scope["method"], headers.get("mcp-protocol-version")))
        await inner(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_config=None,
            ssl_certfile=str(keys / "server.crt"),
            ssl_keyfile=str(keys / "server.key"),
        )
    )
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    try:
        while not server.started:
            assert serving.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        running.url = f"https://localhost:{port}/mcp"
        yield running
    finally:
        server.should_exit = True
        serving.join()
