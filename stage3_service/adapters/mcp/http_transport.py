"""Reaches a server over streamable HTTP, one POST per message, for the library to speak through.

Guards what the library's transport would do by itself: it follows redirects, resumes a stream that
broke, and reads bodies of any size. Here a message is posted once, its answer is one bounded
document of strict JSON, and a lost one is in doubt. Deliberately absent: the stream of
notifications, in whose place a server is asked for each call, and compressed bodies.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import httpx2
import mcp_types
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage

from stage3_service.adapters.mcp.call import CARRIED, PendingCall
from stage3_service.adapters.mcp.incoming import MessageRefused, read_message
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.mcp_server import HttpServer
from stage3_service.domains.port import DomainSilent, DomainUnreachable

CONNECT_TIMEOUT_S: Final = 2.0
"""As long as any domain elsewhere is waited for."""

_MAX_CONNECTIONS: Final = 64
_MAX_TOKEN_BYTES: Final = 16_384
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_WITHOUT_ANSWER: Final = frozenset({_ACCEPTED, _NO_CONTENT})
_REDIRECTIONS: Final = range(300, 400)
_FAILURES: Final = range(400, 600)
_NOT_FOUND: Final = 404
_METHOD_NOT_ALLOWED: Final = 405
# Proxies speak so, and whoever does has not said what the server did.
_TELLS_NOTHING: Final = frozenset({502, 503, 504})
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"


class HttpRefused(Exception):
    """The server cannot be reached as declared: a file is missing or holds something else."""


class HttpTransport:
    """The way to one service, open for the life of one session.

    `ended` is set once the session is of no use: the service is not there, or has forgotten it.
    """

    def __init__(self, server: HttpServer, *, max_answer_bytes: int) -> None:
        """Describe the service; nothing is sent before the session is entered."""
        self.ended = asyncio.Event()
        self.hangs = False
        # Each call has a response of its own: that one is silent says nothing of the others.
        self.heard_s = math.inf
        self.hears = False
        self.calls = None
        self._server = server
        self._max_answer_bytes = max_answer_bytes
        self._opened = AsyncExitStack()

    async def __aenter__(
        self,
    ) -> tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]:
        """Open the streams.

        Raises:
            HttpRefused: a declared file cannot be used.

        """
        headers = {"accept-encoding": "identity"}
        if self._server.bearer_token_file is not None:
            headers["authorization"] = f"Bearer {_read_token(Path(self._server.bearer_token_file))}"
        client = httpx2.AsyncClient(
            transport=_OnePost(_context(self._server), self.ended, self._max_answer_bytes),
            headers=headers,
            # A call's deadline is kept by whoever waits for it.
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
            trust_env=False,
            follow_redirects=False,
        )
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(client)
            streams = await opening.enter_async_context(
                streamable_http_client(self._server.url, http_client=client)
            )
            self._opened = opening.pop_all()
        return streams

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the service that the session has ended, and close the connections."""
        self.ended.set()
        await self._opened.__aexit__(kind, error, trace)


class _OnePost(httpx2.AsyncBaseTransport):
    """Sends one request and hands back its answer as one document."""

    def __init__(
        self, context: ssl.SSLContext, ended: asyncio.Event, max_answer_bytes: int
    ) -> None:
        self._ended = ended
        self._max_answer_bytes = max_answer_bytes
        self._wire = httpx2.AsyncHTTPTransport(
            verify=context,
            retries=0,
            limits=httpx2.Limits(
                max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS
            ),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            return await self._wire.handle_async_request(request)
        if request.method != "POST":
            # The library would listen, or ask again for an answer that was lost.
            return httpx2.Response(_METHOD_NOT_ALLOWED, request=request)
        call = CARRIED.get()
        posted = json.loads(request.content)
        request_id = posted.get("id")
        try:
            return await self._post(request, request_id, call)
        except _NEVER_SENT as error:
            self._ended.set()
            self._give_up(call, DomainUnreachable("no connection to the server; nothing was sent"))
            return _failed(request, request_id, f"no connection: {type(error).__name__}")
        except (httpx2.TransportError, _NobodyWaits):
            self._ended.set()
            self._give_up(call, DomainSilent("the connection was lost"))
            return _failed(request, request_id, "the connection was lost")
        except (MessageRefused, AnswerInvalid) as refused:
            self._give_up(call, AnswerInvalid(refused.description))
            return _failed(request, request_id, refused.description)

    async def aclose(self) -> None:
        await self._wire.aclose()

    def _give_up(
        self, call: PendingCall | None, outcome: DomainUnreachable | DomainSilent | AnswerInvalid
    ) -> None:
        if call is None:
            return
        if isinstance(outcome, AnswerInvalid):
            call.end(outcome)
        else:
            call.end_without_answer(str(outcome))

    async def _post(
        self,
        request: httpx2.Request,
        request_id: mcp_types.RequestId | None,
        call: PendingCall | None,
    ) -> httpx2.Response:
        if call is not None:
            request.extensions = {**request.extensions, "trace": _Beginning(call)}
        response = await self._wire.handle_async_request(request)
        response.request = request
        try:
            status = response.status_code
            if status in _TELLS_NOTHING:
                raise httpx2.ReadError(f"status {status} says nothing of the call")
            if status == _NOT_FOUND and MCP_SESSION_ID in request.headers:
                self._ended.set()
            if request_id is None:
                # A notification has no answer; what came instead of none is not read.
                return httpx2.Response(_ACCEPTED, request=request)
            if status in _REDIRECTIONS:
                raise AnswerInvalid("the server answered with a redirection")
            body = await self._answer(response, request_id)
        finally:
            await response.aclose()
        if call is not None:
            call.answered = True
        headers = {"content-type": _JSON}
        if MCP_SESSION_ID in response.headers:
            headers[MCP_SESSION_ID] = response.headers[MCP_SESSION_ID]
        return httpx2.Response(status, headers=headers, content=body, request=request)

    async def _answer(self, response: httpx2.Response, request_id: mcp_types.RequestId) -> bytes:
        """Return the one message that answers a request, read strictly."""
        kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if response.headers.get("content-encoding", "identity") != "identity":
            raise AnswerInvalid("the answer is compressed, which was not asked for")
        if kind == _EVENTS and response.status_code not in _FAILURES:
            return await self._event(response, request_id)
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._max_answer_bytes:
                raise AnswerInvalid(f"the answer has more than {self._max_answer_bytes} bytes")
        if response.status_code in _FAILURES:
            # The status has said it; only an error that can be read is worth more.
            return bytes(body) if kind == _JSON and self._is_error(bytes(body)) else b""
        if response.status_code in _WITHOUT_ANSWER:
            raise AnswerInvalid("the server took the call and gave no answer to it")
        if kind == _JSON:
            message = read_message(bytes(body), self._max_answer_bytes)
            if _answers(message) != request_id:
                raise AnswerInvalid("the answer is to another request")
            return bytes(body)
        raise AnswerInvalid("the answer is neither JSON nor a stream of events")

    def _is_error(self, body: bytes) -> bool:
        with suppress(MessageRefused):
            message = read_message(body, self._max_answer_bytes)
            return isinstance(message, mcp_types.JSONRPCError)
        return False

    async def _event(self, response: httpx2.Response, request_id: mcp_types.RequestId) -> bytes:
        """Return the event that is the answer; whatever else a server says here is not heard."""
        try:
            source = httpx2.EventSource(response, max_event_size=self._max_answer_bytes)
            async for event in source:
                if not event.data:
                    continue
                data = event.data.encode()
                if _answers(read_message(data, self._max_answer_bytes)) == request_id:
                    return data
        except httpx2.SSEError:
            raise AnswerInvalid(f"an event has more than {self._max_answer_bytes} bytes") from None
        raise httpx2.ReadError("the stream ended without an answer")


class _NobodyWaits(Exception):
    """The caller has left before anything was sent."""


class _Beginning:
    """Notes that a call begins, when its connection stands and its first byte is about to leave."""

    def __init__(self, call: PendingCall) -> None:
        self._call = call

    async def __call__(self, name: str, _information: object) -> None:
        if name.endswith("send_request_headers.started") and not self._call.begin():
            raise _NobodyWaits


def _answers(message: mcp_types.JSONRPCMessage) -> mcp_types.RequestId | None:
    if isinstance(message, mcp_types.JSONRPCResponse | mcp_types.JSONRPCError):
        return message.id
    return None


def _failed(
    request: httpx2.Request, request_id: mcp_types.RequestId | None, reason: str
) -> httpx2.Response:
    """Return an answer that ends the library's wait; the call has its outcome already."""
    if request_id is None:
        return httpx2.Response(_NO_CONTENT, request=request)
    error = {"code": mcp_types.CONNECTION_CLOSED, "message": reason}
    content = json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()
    return httpx2.Response(200, headers={"content-type": _JSON}, content=content, request=request)


def _context(server: HttpServer) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=server.authority_file)
    except OSError as error:
        raise HttpRefused(
            f"{server.authority_file} holds no certificate of an authority"
        ) from error


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HttpRefused(f"{path} cannot be read as a bearer token") from error
    if not token.isprintable() or not token or " " in token:
        raise HttpRefused(f"{path} does not hold one bearer token")
    return token
