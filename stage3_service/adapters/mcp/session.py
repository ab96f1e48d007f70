"""One session with one server: from its handshake to its end, and what the server shows in it.

Guards that a session carries calls only while what the server shows of itself is what an operator
accepted. Deliberately absent: the library's own `call_tool`, which lists again and sends again,
answers a server's questions and looks into results; its cache; and every callback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Final, Protocol, Self

import mcp_types
from mcp.client.client import Client
from mcp.client.session import ClientSession, IncomingMessage
from mcp.client.subscriptions import SubscriptionLost, listen
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.dispatcher import Dispatcher
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types.version import MODERN_PROTOCOL_VERSIONS as MODERN
from pydantic import RootModel

from servicekit.ijson import JsonValue
from servicekit.invariant import invariant
from stage3_service.adapters.mcp.call import ToolCall
from stage3_service.domains.definition import Definition, DefinitionUnavailable
from stage3_service.domains.mcp_server import Protocol as Generation
from stage3_service.domains.suggestion import suggestion

IDEMPOTENCY_KEY: Final = "stagegate/idempotency-key"
"""Where a server finds the key, among the metadata of a call."""

_MAX_PAGES: Final = 100
_CLIENT: Final = mcp_types.Implementation(name="stagegate-stage3", version="1")

# The library logs what it could not read, which may be anybody's data.
for _name in ("mcp", "client", "httpx2", "httpcore2"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


class Transport(Protocol):
    """What carries the messages of one session."""

    ended: asyncio.Event
    hangs: bool
    heard_s: float
    hears: bool
    """Whether a server can say something that is no answer, such as that its tools are others."""

    @property
    def calls(self) -> Dispatcher[Any] | None:
        """What carries calls beside the library's other messages, once it is entered, if any."""
        ...

    async def __aenter__(
        self,
    ) -> tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None: ...


class _Raw(RootModel[dict[str, Any]]):
    """A result as it came."""


class Session:
    """One session. Everything here happens on the loop that entered it, and in its one task."""

    def __init__(
        self, transport: Transport, generation: Generation, *, on_changed: Callable[[], None]
    ) -> None:
        """Describe the session; nothing is started before it is entered.

        `on_changed` hears when the server says that its tools are others, and may not wait.
        """
        self._on_changed = on_changed
        self.transport = transport
        self.changed = False
        """Whether the server may show something else than when it was last asked."""
        self.question = 0
        """The number of the question that it answered last, among its owner's."""
        self.definition: Definition | None = None
        """What it answered to that."""
        self._entered = AsyncExitStack()
        self._client = Client(
            transport,
            mode=generation.value,
            cache=None,
            client_info=_CLIENT,
            message_handler=self._hear,
        )

    @property
    def is_open(self) -> bool:
        """Say whether a call may be sent."""
        return not self.transport.ended.is_set()

    async def __aenter__(self) -> Self:
        """Connect and shake hands."""
        async with AsyncExitStack() as entered:
            self._calls = (await entered.enter_async_context(self._client)).session
            if self.transport.calls is not None:
                self._calls = _calling(self._calls, self.transport.calls)
            self._entered = entered.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session and what its transport holds."""
        await self._entered.__aexit__(kind, error, trace)

    async def send(self, call: ToolCall) -> dict[str, Any]:
        """Send one call, once, and return the result as the server wrote it."""
        request = mcp_types.CallToolRequest(
            params=mcp_types.CallToolRequestParams(
                name=call.tool,
                arguments=call.arguments,
                _meta={IDEMPOTENCY_KEY: call.idempotency_key},
            )
        )
        return (await self._calls.send_request(request, _Raw)).root

    async def shown(self, tools: Mapping[str, str]) -> Definition:
        """Return what the server shows of the tools that methods are mapped to.

        Raises:
            DefinitionUnavailable: it lacks one of them, or shows too much to be read.

        """
        listed: dict[str, mcp_types.Tool] = {}
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            params = mcp_types.PaginatedRequestParams(cursor=cursor)
            page = await self._session.list_tools(params=params if cursor else None)
            listed |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                return _definition(tools, listed)
        raise DefinitionUnavailable(f"the server lists more than {_MAX_PAGES} pages of tools")

    async def hear(self) -> None:
        """Hear of changed tools until the session ends, where its generation has to be asked to.

        Over a transport on which nothing can be heard, a server is asked for each call instead.
        """
        if not self.transport.hears or self._session.protocol_version not in MODERN:
            return
        with suppress(MCPError, SubscriptionLost):
            async with listen(self._session, tools_list_changed=True) as events:
                # What changed before the server began to tell is found by listing once more.
                self.changed = True
                async for _ in events:
                    self._change()

    @property
    def _session(self) -> ClientSession:
        return self._client.session

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._change()

    def _change(self) -> None:
        self.changed = True
        self._on_changed()


def _calling(session: ClientSession, carried_by: Dispatcher[Any]) -> ClientSession:
    """Return a session as negotiated as the given one, whose requests something else carries."""
    discovered, initialized = session.discover_result, session.initialize_result
    calling = ClientSession(dispatcher=carried_by, client_info=_CLIENT)
    calling.adopt(
        discovered or invariant(initialized, "a session is entered once it has shaken hands")
    )
    return calling


def _definition(tools: Mapping[str, str], listed: Mapping[str, mcp_types.Tool]) -> Definition:
    methods: dict[str, JsonValue] = {}
    for method, name in tools.items():
        tool = listed.get(name)
        if tool is None:
            raise DefinitionUnavailable(
                f"the server has no tool {name!r}{suggestion(name, listed)}"
            )
        shown = tool.model_dump(by_alias=True, mode="json", exclude_none=True)
        methods[method] = {
            "tool": name,
            "description": shown.get("description"),
            "input_schema": shown.get("inputSchema"),
            "annotations": shown.get("annotations"),
        }
    return Definition.of({"adapter": "mcp", "methods": methods})
