"""Where one MCP server is and how it is run: what a declarations file says of it.

Guards that a server is described whole: a program with everything that it is given, or the address
of a service, and nothing that is inherited. Deliberately absent: starting and reaching one, which
is `adapters.mcp`, and the content of any secret: a secret is named by its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

DEFAULT_START_TIMEOUT_S = 20.0
"""An interpreter with a large library is up by then, on a busy machine too."""

MAX_START_TIMEOUT_S = 120.0


class Protocol(StrEnum):
    """Which generation of the protocol is spoken."""

    AUTO = "auto"
    """Ask the server, and fall back to the handshake of the older generation."""
    LEGACY = "legacy"
    """The handshake `initialize`, for servers that take any other first message amiss."""


@dataclass(frozen=True, slots=True)
class StdioServer:
    """A program that Stage-3 starts and speaks to through its standard streams.

    `user` is the name or number of another uid, and None only where `unsafe_stdio` was declared:
    such a program runs as Stage-3 itself and can do what Stage-3 can.
    """

    command: tuple[str, ...]
    working_directory: str
    environment: Mapping[str, str]
    environment_files: Mapping[str, str]
    user: str | None
    readable_paths: tuple[str, ...]
    writable_paths: tuple[str, ...]
    connect_ports: tuple[int, ...]
    show_errors: bool

    def __post_init__(self) -> None:
        """Take private copies, so that nobody can add a variable afterwards."""
        for name in ("environment", "environment_files"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def is_unconfined(self) -> bool:
        """Say whether the program runs under Stage-3's own uid."""
        return self.user is None


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A service that is reached over streamable HTTP. Both files are optional."""

    url: str
    authority_file: str | None
    bearer_token_file: str | None


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server: how it is reached, and which of its tools each method is."""

    reached: StdioServer | HttpServer
    protocol: Protocol
    start_timeout_s: float
    tools: Mapping[str, str]

    def __post_init__(self) -> None:
        """Take a private copy of the map from method to tool."""
        object.__setattr__(self, "tools", MappingProxyType(dict(self.tools)))
