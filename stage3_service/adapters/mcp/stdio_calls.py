"""Carries the governed calls of one session over a child's streams, below the library's session.

Takes the place of the library's own dispatcher, at the seam that it offers for this, for calls of
tools alone: the library still makes the request and reads the result. Guards that an answer goes to
the call it names, and that no call outlives the stream. Deliberately absent: what a call here never
has and the library's way spends most of its time on: progress, a timeout of its own, a trace.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Never

import mcp_types
from mcp.shared.dispatcher import CallOptions, Dispatcher, coerce_request_id
from mcp.shared.exceptions import MCPError
from mcp.shared.transport_context import TransportContext

from servicekit.invariant import invariant
from stage3_service.adapters.mcp.call import CARRIED, PendingCall
from stage3_service.adapters.mcp.incoming import MessageRefused, RequestId
from stage3_service.domains.answer import AnswerInvalid

FIRST_ID: Final = 1 << 30
"""The library counts its own requests of the session from one. Still a number of 32 bits."""

_CLOSED: Final = "the stream is closed"


@dataclass(frozen=True, slots=True)
class _Waiting:
    call: PendingCall
    answer: asyncio.Future[dict[str, Any]]


class StdioCalls(Dispatcher[TransportContext]):
    """The calls of one session that wait for their answers. Everything happens on its loop."""

    def __init__(self, stdin: asyncio.StreamWriter, ended: asyncio.Event) -> None:
        """Write to `stdin`, and nothing once the session has `ended`."""
        self._stdin = stdin
        self._ended = ended
        self._ids = count(FIRST_ID)
        self._waiting: dict[RequestId, _Waiting] = {}

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Send the call that the current task carries, once, and return the result as it came.

        A caller that leaves meanwhile is told to the server, as the protocol asks.

        Raises:
            MCPError: the server answered with an error, or the stream ended without an answer.

        """
        del opts  # for other transports
        call = invariant(CARRIED.get(), "a task that calls carries its call")
        request_id = next(self._ids)
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        line = _line(request)
        if self._is_closed or not call.begin():
            raise MCPError(mcp_types.CONNECTION_CLOSED, _CLOSED)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = _Waiting(call, answer)
        try:
            self._stdin.write(line)
            await self._stdin.drain()
            return await answer
        except asyncio.CancelledError:
            if not call.answered and not self._is_closed:
                left = {"requestId": request_id, "reason": "caller cancelled"}
                self._stdin.write(_notice("notifications/cancelled", left))
            raise
        except OSError:
            raise MCPError(mcp_types.CONNECTION_CLOSED, _CLOSED) from None
        finally:
            del self._waiting[request_id]
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at: where writing failed, nobody waits for it

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Notify of nothing: whatever is no call is the library's own to say."""
        raise NotImplementedError

    async def run(self, *_: object, **__: object) -> Never:
        """Receive nothing: the transport reads the one stream that there is."""
        raise NotImplementedError

    def take(self, message: mcp_types.JSONRPCMessage) -> bool:
        """Hand a message to the call that it answers; say False if it answers none of these."""
        if not isinstance(message, mcp_types.JSONRPCResponse | mcp_types.JSONRPCError):
            return False
        waiting = self._find(message.id)
        if waiting is None:
            return False
        waiting.call.answered = True
        if waiting.answer.done():
            return True
        if isinstance(message, mcp_types.JSONRPCResponse):
            waiting.answer.set_result(message.result)
        else:
            waiting.answer.set_exception(MCPError(message.error.code, message.error.message))
        return True

    def refuse(self, refused: MessageRefused) -> bool:
        """End the call whose answer cannot be read; say False if that is none of these."""
        waiting = self._find(refused.request_id)
        if waiting is not None:
            self._end(waiting, refused)
        return waiting is not None

    def refuse_unattributed(self, refused: MessageRefused) -> None:
        """End the one call under way, whose answer this is. With several it is nobody's."""
        unanswered = [waiting for waiting in self._waiting.values() if not waiting.answer.done()]
        if len(unanswered) == 1:
            self._end(unanswered[0], refused)

    def close(self) -> None:
        """End every call that waits: the stream is over, and no answer comes any more."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(MCPError(mcp_types.CONNECTION_CLOSED, _CLOSED))

    @property
    def _is_closed(self) -> bool:
        return self._ended.is_set() or self._stdin.is_closing()

    def _find(self, request_id: RequestId | None) -> _Waiting | None:
        if request_id is None:
            return None
        # A server may write the number back as a text.
        return self._waiting.get(coerce_request_id(request_id))

    @staticmethod
    def _end(waiting: _Waiting, refused: MessageRefused) -> None:
        waiting.call.end(AnswerInvalid(refused.description))
        if not waiting.answer.done():
            waiting.answer.set_exception(MCPError(mcp_types.PARSE_ERROR, refused.description))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _notice(method: str, params: Mapping[str, Any]) -> bytes:
    return _line({"jsonrpc": "2.0", "method": method, "params": params})
