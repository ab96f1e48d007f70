"""MCP servers for `bench.adapters`: how each is started, declared, called directly and governed.

Called directly means by the protocol's own library, in a closed loop of callers on one session.
"""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcp import StdioServerParameters
from mcp.client.client import Client

from bench.work import ToolWork, WrongAnswerError

START_TIMEOUT_S: Final = 60
_PACKAGE: Final = "@modelcontextprotocol/server-everything"
_NODE_SERVERS: Final = Path(__file__).parents[1] / "tests" / "mcp_servers" / "node_modules"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of one server, over stdio: what it is asked, and what is in every right answer."""

    domain: str
    method: str
    tool: str
    command: tuple[str, ...]
    asked: dict[str, str]
    answered: str

    @property
    def declared(self) -> dict[str, Any]:
        """Return the table that declares the server and this tool."""
        limits = {"max_duration_s": 30, "max_response_bytes": 4096, "repetition": "idempotent"}
        method = {"tool": self.tool, "description": "What the benchmark asks.", **limits}
        return {
            "adapter": "mcp",
            "command": list(self.command),
            "working_directory": "/",
            "unsafe_stdio": True,
            "start_timeout_s": START_TIMEOUT_S,
            "methods": {self.method: method},
        }

    def work(self, user_id: str, token: str, steps: int) -> ToolWork:
        """Return plans of so many calls of it."""
        return ToolWork(user_id, token, self.domain, self.method, steps, self.asked, self.answered)


def time_tool() -> Tool:
    """Return a tool of a server in Python.

    Raises:
        SystemExit: it is not installed.

    """
    program = _program("mcp-server-time")
    asked = {"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    return Tool("clock", "convert", "convert_time", (program,), asked, "+9.0h")


def echo_tool() -> Tool:
    """Return a tool of a server in Node, which does nothing but answer.

    Raises:
        SystemExit: it is not installed.

    """
    script = _NODE_SERVERS / _PACKAGE / "dist" / "index.js"
    if not script.exists():
        raise SystemExit(f"{_PACKAGE} is not installed: `make test` brings it")
    command = (_program("node"), str(script), "stdio")
    return Tool("echo", "echo", "echo", command, {"message": "bench"}, "Echo: bench")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: `make test` brings it")
    return found


@asynccontextmanager
async def sessions(commands: Iterable[tuple[str, ...]]) -> AsyncIterator[list[Client]]:
    """Start a program for each command, and open one session with it."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Client(StdioServerParameters(command=program, args=arguments), cache=None)
            )
            for program, *arguments in commands
        ]


async def call_directly(
    client: Client, tool: Tool, callers: int, seconds: float, pause_s: float = 0.0
) -> list[float]:
    """Call a tool in a closed loop of callers, each with a pause after a call; return the times."""
    last = time.perf_counter() + seconds
    took: list[float] = []

    async def call() -> None:
        while (began := time.perf_counter()) < last:
            result = await client.call_tool(tool.tool, tool.asked)
            took.append(time.perf_counter() - began)
            told = json.dumps(result.model_dump(mode="json"))
            if result.is_error or tool.answered not in told:
                raise WrongAnswerError("the tool answered something else")
            if pause_s:
                await asyncio.sleep(pause_s)

    await asyncio.gather(*(call() for _ in range(callers)))
    return took
