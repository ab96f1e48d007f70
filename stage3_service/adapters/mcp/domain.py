"""Invokes the tools of one MCP server, once per call, as any domain is invoked.

Guards the port: whatever the server, its program or the network does, a call ends in time and in
one of the port's outcomes. Deliberately absent: the protocol (`session`), the life of a session
(`owner`) and late answers: a call that is given up is cancelled, and its server told so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from servicekit.ijson import JsonLimits, JsonValue, parse
from servicekit.invariant import invariant
from stage3_service.adapters.json_schema import compile_foreign_schema
from stage3_service.adapters.mcp.call import PendingCall, ToolCall
from stage3_service.adapters.mcp.confined import Confinement
from stage3_service.adapters.mcp.http_transport import HttpTransport
from stage3_service.adapters.mcp.owner import OnSession, Ownership, SessionOwner
from stage3_service.adapters.mcp.session import Session, Transport
from stage3_service.adapters.mcp.stdio_transport import StdioTransport
from stage3_service.adapters.time_allowed import allotted
from stage3_service.domains.accepted_schemas import with_accepted_schemas
from stage3_service.domains.declaration import DomainDeclaration, SchemaRefused
from stage3_service.domains.definition import (
    MAX_DEFINITION_BYTES,
    AcceptedDefinitions,
    Definition,
    DefinitionUnavailable,
)
from stage3_service.domains.mcp_server import HttpServer, StdioServer
from stage3_service.domains.port import Answer, DomainSilent, Invocation

_ENVELOPE_BYTES: Final = 65_536
_SPELLINGS: Final = 4
"""A message may hold an answer twice, as a text and structured, and escape what it holds."""

_LIMITS: Final = JsonLimits(
    max_bytes=1_048_576,
    max_depth=100,
    max_values=100_000,
    max_key_bytes=1_048_576,
    max_string_bytes=1_048_576,
)
"""Wider than any plan's: what is read here has passed the plan's own limits."""


class McpDomain:
    """One server, callable from any thread, over one session that is kept warm.

    Concurrency: calls share the session and are otherwise independent. Memory: an answer is
    dropped, as it comes, once it is larger than any that the domain declares could be.
    """

    def __init__(
        self,
        declaration: DomainDeclaration,
        *,
        accepted: AcceptedDefinitions,
        on_session: OnSession,
        on_doubt: Callable[[str], None],
    ) -> None:
        """Begin to open a session, whether or not the server is there yet."""
        self._declaration = declaration
        self._server = invariant(declaration.mcp, "an MCP domain is declared with its server")
        largest = max(method.max_response_bytes for method in declaration.methods.values())
        self._max_message_bytes = max(_SPELLINGS * largest, MAX_DEFINITION_BYTES) + _ENVELOPE_BYTES
        self._owner = SessionOwner(
            Ownership(
                domain=declaration.name,
                tools=self._server.tools,
                start_timeout_s=self._server.start_timeout_s,
                open_session=lambda: Session(
                    self._transport(),
                    self._server.protocol,
                    on_changed=lambda: on_doubt(declaration.name),
                ),
                accepted=accepted,
                on_session=on_session,
                on_doubt=on_doubt,
            )
        )

    def invoke(self, invocation: Invocation) -> Answer:
        """Send one call on an accepted session, and read what came of it.

        Raises:
            DomainUnreachable: nothing was sent: the method is not declared, no time was left, or
                there is no session whose server shows what was accepted.
            DomainSilent: the call was sent, or may have been, and no answer to it arrived.
            AnswerInvalid: an answer arrived that is too large, no strict JSON, or no result.

        """
        handed = allotted(self._declaration, invocation)
        arguments = parse(handed.parameters_json, _LIMITS).value
        call = PendingCall(
            ToolCall(self._server.tools[handed.method], _object(arguments), handed.idempotency_key)
        )
        self._owner.submit(call)
        try:
            return call.wait(handed.deadline_s)
        except DomainSilent:
            self._owner.abandon(call, handed.deadline_s)
            raise

    def describe(self) -> Definition:
        """Fetch what the server shows now of the tools that are mapped.

        Raises:
            DefinitionUnavailable: the server is not reached in time, lacks a tool, or shows a
                schema that cannot be enforced beside the file's.

        """
        shown = self._owner.describe()
        try:
            with_accepted_schemas(self._declaration, shown, foreign=compile_foreign_schema)
        except SchemaRefused as refused:
            raise DefinitionUnavailable(f"a schema cannot be enforced: {refused}") from refused
        return shown

    def close(self) -> None:
        """Refuse new calls, end the session and, where Stage-3 started it, the program."""
        self._owner.close()

    def _transport(self) -> Transport:
        match self._server.reached:
            case StdioServer() as server:
                return StdioTransport(
                    _confinement(server),
                    show_errors=server.show_errors,
                    max_line_bytes=self._max_message_bytes,
                )
            case HttpServer() as server:
                return HttpTransport(server, max_answer_bytes=self._max_message_bytes)


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return invariant(value if isinstance(value, dict) else None, "parameters are an object")


def _confinement(server: StdioServer) -> Confinement:
    return Confinement(
        command=server.command,
        working_directory=server.working_directory,
        environment=dict(server.environment),
        environment_files=dict(server.environment_files),
        user=server.user,
        readable_paths=server.readable_paths,
        writable_paths=server.writable_paths,
        connect_ports=server.connect_ports,
    )
