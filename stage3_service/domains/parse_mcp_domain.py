"""Turns one `adapter = "mcp"` table of a declarations file into a declaration.

Guards that a server gets exactly what the file gives it: an absolute program, a whole environment,
a uid that is not Stage-3's, paths and ports by name. Whoever wants less writes `unsafe_stdio` and
finds it in the log. Deliberately absent: defaults that widen, and any look at this machine; whether
a user or a path exists is asked when the server is started.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from servicekit.ijson import JsonValue
from servicekit.serving.address import Address
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.declarations_reading import Reading
from stage3_service.domains.mcp_server import (
    DEFAULT_START_TIMEOUT_S,
    MAX_START_TIMEOUT_S,
    HttpServer,
    McpServer,
    Protocol,
    StdioServer,
)
from stage3_service.domains.parse_method import parse_methods

MCP_ADAPTER = "mcp"

_COMMON: Final = ("adapter", "methods", "protocol", "start_timeout_s")
_STDIO: Final = (
    "command",
    "working_directory",
    "environment",
    "environment_files",
    "user",
    "readable_paths",
    "writable_paths",
    "connect_ports",
    "unsafe_stdio",
    "show_errors",
)
_CONFINING: Final = ("user", "readable_paths", "writable_paths", "connect_ports")
_HTTP: Final = ("endpoint", "authority_file", "bearer_token_file")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}|[1-9][0-9]{0,9}")
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
    r"(/[!\"$-~]*)?"
)
_MAX_TEXT: Final = 4096
MAX_ITEMS: Final = 256
MAX_TOOL_NAME: Final = 256
MAX_PORT: Final = 65_535


def parse_mcp_domain(
    reading: Reading, path: str, name: str, raw: JsonValue
) -> DomainDeclaration | None:
    """Return the domain that a table declares, or None with its problems noted in `reading`."""
    before = len(reading.problems)
    written = raw if isinstance(raw, dict) else {}
    over_stdio = "command" in written
    if over_stdio is ("endpoint" in written):
        reading.refuse(path, "must have either command or endpoint: how the server is reached")
        return None
    table = reading.table(path, raw, (*_COMMON, *(_STDIO if over_stdio else _HTTP)))
    if "methods" not in table:
        reading.refuse(path, "lacks methods")
        return None
    methods = parse_methods(reading, f"{path}.methods", table["methods"], ("tool",))
    tools = _tools(reading, f"{path}.methods", table["methods"])
    reached = _Keys(reading, path, table)
    server = reached.stdio() if over_stdio else reached.http()
    protocol = reached.protocol()
    timeout_s = reached.start_timeout_s()
    if len(reading.problems) > before or server is None:
        return None
    endpoint = server.command[0] if isinstance(server, StdioServer) else server.url
    mcp = McpServer(server, protocol, timeout_s, tools)
    return DomainDeclaration(name, MCP_ADAPTER, endpoint, methods, mcp=mcp)


def _tools(reading: Reading, path: str, raw: JsonValue) -> dict[str, str]:
    """Return the tool of each method: the one that is named, else the one of the same name."""
    tools: dict[str, str] = {}
    for name, table in raw.items() if isinstance(raw, dict) else ():
        tool = table.get("tool", name) if isinstance(table, dict) else name
        if (
            not isinstance(tool, str)
            or not 0 < len(tool) <= MAX_TOOL_NAME
            or not tool.isprintable()
        ):
            reading.refuse(
                f"{path}.{name}.tool", f"must be a name of 1 to {MAX_TOOL_NAME} characters"
            )
        elif tool in tools.values():
            reading.refuse(f"{path}.{name}.tool", f"the tool {tool!r} is another method already")
        else:
            tools[name] = tool
    return tools


class _Keys:
    """The keys of one table that say how the server is reached."""

    def __init__(self, reading: Reading, path: str, table: Mapping[str, JsonValue]) -> None:
        self._reading = reading
        self._path = path
        self._table = table

    def stdio(self) -> StdioServer | None:
        """Return the program that is declared."""
        command = self._texts("command")
        if not command or not _is_plain_path(command[0]):
            self._refuse("command", "must be a list that starts with the program's absolute path")
            return None
        if "working_directory" not in self._table:
            self._reading.refuse(self._path, "lacks working_directory")
        return StdioServer(
            command=command,
            working_directory=self._absolute("working_directory") or "/",
            environment=self._variables("environment"),
            environment_files=self._variables("environment_files", paths=True),
            user=self._user(),
            readable_paths=self._paths("readable_paths"),
            writable_paths=self._paths("writable_paths"),
            connect_ports=self._ports(),
            show_errors=self._flag("show_errors"),
        )

    def http(self) -> HttpServer | None:
        """Return the service that is declared."""
        url = self._table["endpoint"]
        problem = _url_problem(url)
        if problem is not None or not isinstance(url, str):
            self._refuse("endpoint", problem or "must be a URL")
            return None
        authority_file = self._absolute("authority_file")
        if authority_file is not None and not url.startswith("https:"):
            self._refuse("authority_file", "certificates are for an https endpoint")
        return HttpServer(url, authority_file, self._absolute("bearer_token_file"))

    def protocol(self) -> Protocol:
        """Return the generation of the protocol that is asked for."""
        raw = self._table.get("protocol", Protocol.AUTO.value)
        for protocol in Protocol:
            if raw == protocol.value:
                return protocol
        self._refuse("protocol", f"must be one of: {', '.join(Protocol)}")
        return Protocol.AUTO

    def start_timeout_s(self) -> float:
        """Return how long a server may take until it answers."""
        raw = self._table.get("start_timeout_s", DEFAULT_START_TIMEOUT_S)
        # A bool is an int to Python and a mistake to everybody else.
        numeric = isinstance(raw, int | float) and not isinstance(raw, bool)
        if isinstance(raw, int | float) and numeric and 0 < raw <= MAX_START_TIMEOUT_S:
            return float(raw)
        limit = f"over 0 and at most {MAX_START_TIMEOUT_S:g}"
        self._refuse("start_timeout_s", f"must be a number of seconds, {limit}")
        return DEFAULT_START_TIMEOUT_S

    def _user(self) -> str | None:
        unsafe = self._flag("unsafe_stdio")
        if unsafe:
            for key in _CONFINING:
                if key in self._table:
                    self._refuse(key, "confines nothing beside unsafe_stdio = true")
            return None
        user = self._table.get("user")
        if isinstance(user, str) and _USER.fullmatch(user) and user != "root":
            return user
        self._refuse(
            "user",
            "must name the user that the server runs as, who is not Stage-3's own; or run the "
            "server as a service of its own and declare its endpoint",
        )
        return None

    def _ports(self) -> tuple[int, ...]:
        raw = self._table.get("connect_ports", [])
        ports = tuple(
            port
            for port in (raw if isinstance(raw, list) else ())
            if isinstance(port, int) and not isinstance(port, bool) and 0 < port <= MAX_PORT
        )
        if not isinstance(raw, list) or len(ports) != len(raw) or len(ports) > MAX_ITEMS:
            self._refuse("connect_ports", f"must be a list of TCP ports, 1 to {MAX_PORT}")
        return ports

    def _flag(self, key: str) -> bool:
        raw = self._table.get(key, False)
        if not isinstance(raw, bool):
            self._refuse(key, "must be true or false")
        return raw is True

    def _texts(self, key: str) -> tuple[str, ...]:
        raw = self._table.get(key, [])
        if isinstance(raw, list) and len(raw) <= MAX_ITEMS:
            texts = tuple(text for text in raw if isinstance(text, str) and _is_argument(text))
            if len(texts) == len(raw):
                return texts
        self._refuse(key, f"must be a list of at most {MAX_ITEMS} texts")
        return ()

    def _paths(self, key: str) -> tuple[str, ...]:
        paths = self._texts(key)
        if not all(map(_is_plain_path, paths)):
            self._refuse(key, "must be a list of absolute paths, without .. in them")
        return paths

    def _absolute(self, key: str) -> str | None:
        raw = self._table.get(key)
        if raw is None or (isinstance(raw, str) and _is_argument(raw) and _is_plain_path(raw)):
            return raw
        self._refuse(key, "must be an absolute path, without .. in it")
        return None

    def _variables(self, key: str, *, paths: bool = False) -> dict[str, str]:
        raw = self._table.get(key, {})
        if not isinstance(raw, dict):
            self._refuse(key, "must be a table of variables")
            return {}
        found: dict[str, str] = {}
        for name, value in raw.items():
            if VARIABLE.fullmatch(name) is None:
                self._refuse(f"{key}.{name}", "is no name of a variable")
            elif not isinstance(value, str) or not _is_argument(value):
                self._refuse(f"{key}.{name}", "must be a text")
            elif paths and not _is_plain_path(value):
                self._refuse(f"{key}.{name}", "must be the absolute path of a file")
            else:
                found[name] = value
        return found

    def _refuse(self, key: str, description: str) -> None:
        self._reading.refuse(f"{self._path}.{key}", description)


def _url_problem(raw: JsonValue) -> str | None:
    url = _URL.fullmatch(raw) if isinstance(raw, str) and len(raw) <= _MAX_TEXT else None
    if url is None:
        return "must be the https URL of the server, without user, password and fragment"
    scheme, host, port = url.group("scheme", "host", "port")
    if port is not None and not 0 < int(port) <= MAX_PORT:
        return f"the port must be 1 to {MAX_PORT}"
    if scheme == "http" and not Address(host.strip("[]"), 0).is_loopback:
        return "must be https: only a loopback address is called without certificates"
    return None


def _is_argument(text: str) -> bool:
    return 0 < len(text) <= _MAX_TEXT and "\0" not in text


def _is_plain_path(text: str) -> bool:
    return text.startswith("/") and ".." not in text.split("/")
