"""Declaring an MCP server: nothing is inherited, nothing is guessed, every problem is named."""

from __future__ import annotations

import pytest

from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.mcp_server import HttpServer, McpServer, Protocol, StdioServer
from stage3_service.domains.parse_declarations import parse_declarations

_METHOD: dict[str, JsonValue] = {
    "description": "Reads a file.",
    "max_duration_s": 2,
    "max_response_bytes": 128,
    "repetition": "idempotent",
}
_STDIO: dict[str, JsonValue] = {
    "adapter": "mcp",
    "command": ["/usr/bin/server", "--root", "/srv/files"],
    "working_directory": "/srv/files",
    "user": "files",
    "methods": {"read_file": {**_METHOD, "tool": "read-file"}, "search": dict(_METHOD)},
}
_HTTP: dict[str, JsonValue] = {
    "adapter": "mcp",
    "endpoint": "https://search:8443/mcp",
    "methods": {"search": dict(_METHOD)},
}


def parsed(domain: JsonValue) -> DomainDeclaration:
    """Return what one table declares."""
    raw: JsonValue = {"domains": {"files": domain}}
    (declared,) = parse_declarations(raw, validators=compile_schema, builtin={})
    return declared


def without(table: dict[str, JsonValue], key: str) -> dict[str, JsonValue]:
    """Return a table that lacks a key."""
    return {name: value for name, value in table.items() if name != key}


def problems(domain: JsonValue) -> tuple[str, ...]:
    """Return what a table is refused for."""
    with pytest.raises(DeclarationsRefused) as caught:
        parsed(domain)
    return caught.value.problems


def test_a_program_gets_what_is_declared_and_nothing_else() -> None:
    """Every absent key is the least: no variable, no path, no port, no shown errors."""
    declared = parsed(_STDIO)

    assert (declared.adapter, declared.endpoint) == ("mcp", "/usr/bin/server")
    assert declared.mcp == McpServer(
        reached=StdioServer(
            command=("/usr/bin/server", "--root", "/srv/files"),
            working_directory="/srv/files",
            environment={},
            environment_files={},
            user="files",
            readable_paths=(),
            writable_paths=(),
            connect_ports=(),
            show_errors=False,
        ),
        protocol=Protocol.AUTO,
        start_timeout_s=20.0,
        tools={"read_file": "read-file", "search": "search"},
    )
    assert declared.methods["read_file"].max_response_bytes == 128


def test_a_service_is_declared_by_its_address() -> None:
    """With its authority and its token, both by file."""
    keys: dict[str, JsonValue] = {
        "authority_file": "/etc/ca.pem",
        "bearer_token_file": "/run/secrets/token",
        "protocol": "legacy",
        "start_timeout_s": 3,
    }
    declared = parsed({**_HTTP, **keys})

    assert declared.mcp is not None
    assert declared.mcp.reached == HttpServer(
        "https://search:8443/mcp", "/etc/ca.pem", "/run/secrets/token"
    )
    assert (declared.mcp.protocol, declared.mcp.start_timeout_s) == (Protocol.LEGACY, 3.0)


def test_unsafe_stdio_takes_the_place_of_a_user() -> None:
    """And of nothing else: whoever writes it says so in one word that can be searched for."""
    declared = parsed({**without(_STDIO, "user"), "unsafe_stdio": True})

    assert declared.mcp is not None
    assert isinstance(declared.mcp.reached, StdioServer)
    assert declared.mcp.reached.is_unconfined


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (without(_STDIO, "user"), "files.user: must name the user"),
        ({**_STDIO, "user": "root"}, "files.user: must name the user"),
        ({**_STDIO, "user": "0"}, "files.user: must name the user"),
        ({**_STDIO, "user": 4711}, "files.user: must name the user"),
        ({**_STDIO, "unsafe_stdio": True}, "files.user: confines nothing"),
        (
            {**without(_STDIO, "user"), "unsafe_stdio": True, "readable_paths": ["/srv"]},
            "files.readable_paths: confines nothing",
        ),
        ({**_STDIO, "unsafe_stdio": "yes"}, "files.unsafe_stdio: must be true or false"),
        ({**_STDIO, "endpoint": "https://a/"}, "files: must have either command or endpoint"),
        (without(_STDIO, "command"), "files: must have either command or endpoint"),
        ({**_STDIO, "command": []}, "files.command: must be a list that starts with"),
        ({**_STDIO, "command": ["server"]}, "files.command: must be a list that starts with"),
        ({**_STDIO, "command": "/usr/bin/server"}, "files.command: must be a list"),
        ({**_STDIO, "command": ["/usr/bin/server", "a\0b"]}, "files.command: must be a list"),
        (without(_STDIO, "working_directory"), "files: lacks working_directory"),
        ({**_STDIO, "working_directory": "files"}, "files.working_directory: must be an abs"),
        ({**_STDIO, "readable_paths": ["/srv/../root"]}, "files.readable_paths: must be a list"),
        ({**_STDIO, "writable_paths": "/srv"}, "files.writable_paths: must be a list"),
        ({**_STDIO, "connect_ports": [0]}, "files.connect_ports: must be a list of TCP ports"),
        ({**_STDIO, "connect_ports": [True]}, "files.connect_ports: must be a list of TCP ports"),
        ({**_STDIO, "environment": {"A B": "1"}}, "files.environment.A B: is no name"),
        ({**_STDIO, "environment": {"A": 1}}, "files.environment.A: must be a text"),
        ({**_STDIO, "environment": []}, "files.environment: must be a table"),
        (
            {**_STDIO, "environment_files": {"A": "secret"}},
            "files.environment_files.A: must be the absolute path",
        ),
        ({**_STDIO, "protocol": "2024"}, "files.protocol: must be one of: auto, legacy"),
        ({**_STDIO, "start_timeout_s": 0}, "files.start_timeout_s: must be a number"),
        ({**_STDIO, "start_timeout_s": True}, "files.start_timeout_s: must be a number"),
        ({**_STDIO, "bearer_token_file": "/a"}, "files.bearer_token_file: unknown key"),
        ({**_STDIO, "comand": ["/a"]}, "files.comand: unknown key; did you mean command?"),
        (without(_STDIO, "methods"), "files: lacks methods"),
        ({**_STDIO, "methods": {}}, "files.methods: must be a table that names"),
        ({**_STDIO, "methods": {"read-file": dict(_METHOD)}}, "a method name has the form"),
        ({**_STDIO, "methods": {"a": {"tool": "b"}}}, "files.methods.a: lacks description"),
        (
            {**_STDIO, "methods": {"a": {**_METHOD, "tool": ""}}},
            "files.methods.a.tool: must be a name",
        ),
        (
            {**_STDIO, "methods": {"a": {**_METHOD, "tool": "b"}, "b": dict(_METHOD)}},
            "files.methods.b.tool: the tool 'b' is another method already",
        ),
        ({**_HTTP, "user": "files"}, "files.user: unknown key"),
        ({**_HTTP, "endpoint": "http://search/mcp"}, "files.endpoint: must be https"),
        ({**_HTTP, "endpoint": "ftp://search/"}, "files.endpoint: must be the https URL"),
        ({**_HTTP, "endpoint": "https://u:p@search/"}, "files.endpoint: must be the https URL"),
        ({**_HTTP, "endpoint": "https://search/#a"}, "files.endpoint: must be the https URL"),
        ({**_HTTP, "endpoint": "https://search/a b"}, "files.endpoint: must be the https URL"),
        ({**_HTTP, "endpoint": "https://search:99999/"}, "files.endpoint: the port must be"),
        ({**_HTTP, "endpoint": 1}, "files.endpoint: must be the https URL"),
        (
            {**_HTTP, "endpoint": "http://127.0.0.1:1/", "authority_file": "/a"},
            "files.authority_file: certificates are for an https endpoint",
        ),
        ({**_HTTP, "bearer_token_file": "token"}, "files.bearer_token_file: must be an absolute"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(table: JsonValue, problem: str) -> None:
    """The path and what to write instead; nothing is left to a default that widens."""
    assert any(problem in found for found in problems(table)), problems(table)


@pytest.mark.parametrize(
    "url", ["http://localhost/mcp", "http://127.0.0.1:8000/mcp", "http://[::1]:8000/mcp"]
)
def test_a_loopback_address_needs_no_certificate(url: str) -> None:
    """Nothing outside this machine can answer there."""
    assert parsed({**_HTTP, "endpoint": url}).endpoint == url


def test_all_problems_are_named_at_once() -> None:
    """A person should have to correct a file once."""
    table: dict[str, JsonValue] = {**_STDIO, "user": "root", "protocol": "x", "command": ["a"]}

    assert len(problems(table)) >= 2
