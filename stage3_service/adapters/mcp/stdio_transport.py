"""Carries messages to a child and back, one line each, for the library to speak through.

Guards three things that the library's own transport leaves open: a line has an end, or is thrown
away unread past its bound; a message is strict JSON; and what cannot be read is the answer to the
call it names, or else the end of the session. Deliberately absent: what a message means.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

import anyio
import mcp_types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from stage3_service.adapters.mcp.child import Child, start_child
from stage3_service.adapters.mcp.confined import Confinement
from stage3_service.adapters.mcp.incoming import (
    KEPT_BYTES,
    MessageRefused,
    attributed,
    read_message,
)
from stage3_service.adapters.mcp.stdio_calls import StdioCalls

_CHUNK_BYTES: Final = 65_536

Incoming = SessionMessage | Exception


class StdioTransport:
    """One child's streams, open for the life of one session.

    `ended` is set once no message can come any more: the child's output ended, or what came could
    not be read and cannot be told to be any call's answer.
    """

    def __init__(self, confinement: Confinement, *, show_errors: bool, max_line_bytes: int) -> None:
        """Describe the child; it is started when the session is entered."""
        self.ended = asyncio.Event()
        self.hangs = False
        self.heard_s = 0.0
        self.hears = True
        self.calls: StdioCalls | None = None
        self._confinement = confinement
        self._show_errors = show_errors
        self._max_line_bytes = max_line_bytes
        self._child: Child | None = None
        self._reading: asyncio.Task[None] | None = None
        self._incoming: MemoryObjectSendStream[Incoming] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process, while there is one."""
        return None if self._child is None else self._child.pid

    async def __aenter__(self) -> tuple[MemoryObjectReceiveStream[Incoming], _Writer]:
        """Start the child and return its two streams.

        Raises:
            ChildRefused: it does not run.

        """
        self._child = await start_child(self._confinement, show_errors=self._show_errors)
        self._incoming, outgoing = anyio.create_memory_object_stream[Incoming](0)
        self.calls = StdioCalls(self._child.stdin, self.ended)
        reading = self._read(self._child, self.calls, self._incoming)
        self._reading = asyncio.create_task(reading)
        return outgoing, _Writer(self._child, self.ended)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child and whatever it started, also when the session is cancelled."""
        self.ended.set()
        if self._child is not None:
            stopping = asyncio.create_task(self._child.stop(at_once=self.hangs))
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                await stopping
                raise
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(
        self, child: Child, calls: StdioCalls, incoming: MemoryObjectSendStream[Incoming]
    ) -> None:
        lines = _Lines(self._max_line_bytes)
        try:
            async with incoming:
                while chunk := await child.stdout.read(_CHUNK_BYTES):
                    self.heard_s = asyncio.get_running_loop().time()
                    for line in lines.feed(chunk):
                        message = self._message(line, calls)
                        if message is not None and not calls.take(message):
                            await incoming.send(SessionMessage(message))
        except (_Unreadable, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the session ends with the stream; what is wrong with it was told to the calls
        finally:
            self.ended.set()
            calls.close()

    def _message(self, line: _Line, calls: StdioCalls) -> mcp_types.JSONRPCMessage | None:
        """Return the message in a line, or None where a call took it that cannot be read.

        Raises:
            _Unreadable: it names no call: nothing after it can be trusted either.

        """
        try:
            if line.is_too_long:
                description = f"the answer is a line of more than {self._max_line_bytes} bytes"
                raise MessageRefused(description, attributed(line.content))
            return read_message(line.content, self._max_line_bytes)
        except MessageRefused as refused:
            if refused.request_id is None:
                calls.refuse_unattributed(refused)
                raise _Unreadable from None
            if calls.refuse(refused):
                return None
            # To a request of the library's, or to a call that was given up, and then it is dropped.
            error = mcp_types.ErrorData(code=mcp_types.PARSE_ERROR, message=refused.description)
            return mcp_types.JSONRPCError(jsonrpc="2.0", id=refused.request_id, error=error)


class _Unreadable(Exception):
    """The stream of messages cannot be read on."""


class _Writer:
    """The library's way out, for all that is no call: a message is one line."""

    def __init__(self, child: Child, ended: asyncio.Event) -> None:
        self._child = child
        self._ended = ended

    async def send(self, item: SessionMessage) -> None:
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        if self._ended.is_set() or self._child.stdin.is_closing():
            raise anyio.ClosedResourceError
        try:
            self._child.stdin.write(line)
            await self._child.stdin.drain()
        except OSError:
            raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        self._child.stdin.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Line:
    __slots__ = ("content", "is_too_long")

    def __init__(self, content: bytes, *, is_too_long: bool) -> None:
        self.content = content
        self.is_too_long = is_too_long


class _Lines:
    """Cuts a stream of bytes into lines, and keeps no more of one than its bound."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts = bytearray()
        self._dropped = False

    def feed(self, chunk: bytes) -> list[_Line]:
        """Return the lines that end in this chunk; empty ones are nothing."""
        lines: list[_Line] = []
        *ending, rest = chunk.split(b"\n")
        for part in ending:
            self._take(part)
            if self._parts.strip():
                lines.append(_Line(bytes(self._parts), is_too_long=self._dropped))
            self._parts.clear()
            self._dropped = False
        self._take(rest)
        return lines

    def _take(self, part: bytes) -> None:
        self._parts += part
        if self._dropped or len(self._parts) > self._max_bytes:
            self._dropped = True
            # Both ends of what there is so far; the identifier is in one of them.
            if len(self._parts) > 2 * KEPT_BYTES:
                del self._parts[KEPT_BYTES:-KEPT_BYTES]
