"""Calls beside the library's own messages on one stream: the same bytes, and the same ends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types
import pytest
from mcp.client.session import ClientSession
from mcp.shared.dispatcher import Dispatcher
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.message import SessionMessage
from pydantic import RootModel

from stage3_service.adapters.mcp.call import CARRIED, PendingCall, ToolCall
from stage3_service.adapters.mcp.stdio_calls import FIRST_ID, StdioCalls
from tests.harness.eventually import PATIENCE_S

INFO = mcp_types.Implementation(name="trial", version="1")
OLDER = mcp_types.InitializeResult(
    protocol_version="2025-06-18", capabilities=mcp_types.ServerCapabilities(), server_info=INFO
)
NEWER = mcp_types.DiscoverResult(
    supported_versions=["2026-07-28"], capabilities=mcp_types.ServerCapabilities()
)
Negotiated = mcp_types.InitializeResult | mcp_types.DiscoverResult
DONE = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}


class Raw(RootModel[dict[str, Any]]):
    """A result as it came."""


def session_over(dispatcher: Dispatcher[Any], negotiated: Negotiated) -> ClientSession:
    """Return a session that has shaken hands."""
    session = ClientSession(dispatcher=dispatcher, client_info=INFO)
    session.adopt(negotiated)
    return session


def asked() -> mcp_types.CallToolRequest:
    """Return the request of a call."""
    params = mcp_types.CallToolRequestParams(
        name="echo", arguments={"text": "snow ☃", "number": 1.5}, _meta={"key": "plan-1/0"}
    )
    return mcp_types.CallToolRequest(params=params)


class Stream:
    """A session's calls, and the other end of what they write to."""

    def __init__(self, calls: StdioCalls, written: asyncio.StreamReader) -> None:
        self.calls = calls
        self._written = written

    async def sent(self) -> dict[str, Any]:
        """Return the next message that was sent."""
        line = await asyncio.wait_for(self._written.readline(), PATIENCE_S)
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, pending: PendingCall) -> asyncio.Task[dict[str, Any]]:
        """Send a call in a task of its own."""
        CARRIED.set(pending)
        return asyncio.create_task(self.calls.send_raw_request("tools/call", {"name": "echo"}))

    def answer(self, request_id: int | str) -> bool:
        """Take a success as the answer to a request."""
        return self.calls.take(
            mcp_types.JSONRPCResponse(jsonrpc="2.0", id=request_id, result=dict(DONE))
        )


@asynccontextmanager
async def stream() -> AsyncIterator[Stream]:
    """Open the calls of one session over a pair of sockets."""
    ours, theirs = socket.socketpair()
    _, stdin = await asyncio.open_connection(sock=ours)
    written, their_writer = await asyncio.open_connection(sock=theirs)
    try:
        yield Stream(StdioCalls(stdin, asyncio.Event()), written)
    finally:
        stdin.close()
        their_writer.close()


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene on a loop of its own, with an end to its patience."""
    asyncio.run(asyncio.wait_for(scene, PATIENCE_S))


def pending() -> PendingCall:
    """Return a call that nobody has sent."""
    return PendingCall(ToolCall("echo", {}, "plan-1/0"))


async def sent_by_the_library(negotiated: Negotiated) -> dict[str, Any]:
    """Return what the library's own dispatcher sends for the same request."""
    silent, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](1)
    outgoing, sent = anyio.create_memory_object_stream[SessionMessage](1)
    dispatcher = JSONRPCDispatcher[Any](incoming, outgoing)
    with silent, sent:
        async with session_over(dispatcher, negotiated) as session:
            calling = asyncio.create_task(session.send_request(asked(), Raw))
            message = (await sent.receive()).message
            calling.cancel()
            await asyncio.wait([calling])
    shown: dict[str, Any] = message.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return shown


@pytest.mark.parametrize("negotiated", [OLDER, NEWER], ids=["older", "newer"])
def test_a_call_is_the_message_that_the_library_would_send(negotiated: Negotiated) -> None:
    """In both generations; only its number is another, which the library never reaches."""

    async def scene() -> None:
        async with stream() as opened:
            CARRIED.set(pending())
            session = session_over(opened.calls, negotiated)
            calling = asyncio.create_task(session.send_request(asked(), Raw))
            sent = await opened.sent()
            assert opened.answer(sent["id"])
            assert (await calling).root["content"] == DONE["content"]
        expected = await sent_by_the_library(negotiated)
        assert {**sent, "id": None} == {**expected, "id": None}
        assert sent["id"] >= FIRST_ID > expected["id"]

    run(scene())


def test_an_answer_finds_its_call_also_where_its_number_came_back_as_a_text() -> None:
    """As the library reads it. One to a number that nobody waits for is nobody's."""

    async def scene() -> None:
        async with stream() as opened:
            calls = [opened.send(pending()) for _ in range(2)]
            ids = [(await opened.sent())["id"] for _ in calls]
            assert not opened.answer(1)
            assert opened.answer(str(ids[1]))
            assert await calls[1] == DONE
            assert not calls[0].done()
            assert opened.answer(ids[0])
            assert await calls[0] == DONE
            assert not opened.answer(ids[0])

    run(scene())


def test_a_caller_that_leaves_is_told_to_the_server() -> None:
    """The protocol asks for it: the server may stop. Its answer is then nobody's."""

    async def scene() -> None:
        async with stream() as opened:
            call = opened.send(pending())
            request_id = (await opened.sent())["id"]
            call.cancel()
            told = await opened.sent()
            assert told["method"] == "notifications/cancelled"
            assert told["params"]["requestId"] == request_id
            assert "id" not in told
            assert not opened.answer(request_id)

    run(scene())


def test_a_caller_that_left_before_is_sent_nothing_for() -> None:
    """Its call was given up before its first byte, and stays unsent."""

    async def scene() -> None:
        async with stream() as opened:
            gone = pending()
            gone.end_without_answer("nobody waits")
            with pytest.raises(MCPError):
                await opened.send(gone)
            assert not gone.sent
            call = opened.send(pending())
            assert (await opened.sent())["method"] == "tools/call"
            call.cancel()

    run(scene())


def test_the_end_of_the_stream_is_the_end_of_every_call() -> None:
    """None waits for an answer that cannot come, and none is sent afterwards."""

    async def scene() -> None:
        async with stream() as opened:
            waiting = pending()
            call = opened.send(waiting)
            await opened.sent()
            opened.calls.close()
            with pytest.raises(MCPError):
                await call
            assert waiting.sent
            assert not waiting.answered

    run(scene())
