"""A server over HTTP: one POST a call, nothing followed, nothing resumed, nothing asked again."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from stage3_service.adapters.mcp.domain import McpDomain
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.port import DomainSilent, DomainUnreachable, MethodFailed, Output
from tests.fakes.mcp_http_server import EVENTS, Reply, done, http_peer, result
from tests.harness.mcp import invoke, mcp_domain, mcp_table

OTHER = {"jsonrpc": "2.0", "id": 999, "result": {"content": []}}


def http_table(url: str, **keys: Any) -> dict[str, Any]:
    """Return the table of a domain whose one method is the tool `work`."""
    return mcp_table({"work": "work"}, endpoint=url, **keys)


def events(*messages: object) -> bytes:
    """Return a stream of events."""
    return b"".join(
        f"id: {number}\ndata: {json.dumps(message)}\n\n".encode()
        for number, message in enumerate(messages)
    )


def answered(request: dict[str, Any]) -> object:
    """Return the message that answers a request."""
    return json.loads(done(request).body)


NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
QUESTION = {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}


class TestAnswers:
    """What comes back is one bounded document of strict JSON."""

    @pytest.mark.parametrize(
        "reply",
        [
            done,
            lambda request: Reply(kind=EVENTS, body=events(answered(request))),
            lambda request: Reply(
                kind=EVENTS, body=events(NOTIFICATION, QUESTION, OTHER, answered(request), OTHER)
            ),
        ],
        ids=["json", "event", "event_among_others"],
    )
    def test_an_answer_is_read_from_a_body_or_from_events(self, reply: Any) -> None:
        """A server's questions on the way are not answered: nothing but the call is sent."""
        with http_peer(reply) as peer, mcp_domain(http_table(peer.url)) as domain:
            assert invoke(domain, "work") == Output(b'{"content":[{"type":"text","text":"done"}]}')
            sent = [body["method"] for command, _, body in peer.received if command == "POST"]
        assert sent == [
            "server/discover",
            "initialize",
            "notifications/initialized",
            "tools/list",
            "tools/call",
        ]

    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            (Reply(307, headers={"location": "/mcp"}), "a redirection"),
            (Reply(302, headers={"location": "/other"}), "a redirection"),
            (Reply(202), "gave no answer"),
            (Reply(kind="text/html", body=b"<p>Hello</p>"), "neither JSON nor"),
            (Reply(body=b"{"), "not strict JSON"),
            (Reply(body=json.dumps(OTHER).encode()), "to another request"),
            (Reply(body=b'{"a":"' + b"x" * 9_000_000 + b'"}'), "has more than"),
            (Reply(kind=EVENTS, body=b"data: " + b"x" * 9_000_000 + b"\n\n"), "has more than"),
            (Reply(body=b"", headers={"content-encoding": "gzip"}), "compressed"),
        ],
        ids=["307", "302", "202", "html", "cut", "other", "large", "large_event", "compressed"],
    )
    def test_an_answer_that_is_none_is_invalid_and_sent_nothing_again(
        self, reply: Reply, why: str
    ) -> None:
        """Failed, not in doubt: something answered. The session goes on."""
        replies: list[Reply | None] = [reply]
        with (
            http_peer(lambda request: replies.pop() if replies else done(request)) as peer,
            mcp_domain(http_table(peer.url)) as domain,
        ):
            outcome = invoke(domain, "work")
            assert isinstance(outcome, AnswerInvalid), outcome
            assert why in outcome.description
            assert peer.called() == 1
            assert isinstance(invoke(domain, "work"), Output)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500])
    def test_a_status_that_refuses_is_an_answer(self, status: int) -> None:
        """Failed. What it did before it refused is not known to us, and nothing is sent again."""
        replies = [Reply(status)]
        with (
            http_peer(lambda request: replies.pop() if replies else done(request)) as peer,
            mcp_domain(http_table(peer.url)) as domain,
        ):
            assert isinstance(invoke(domain, "work"), MethodFailed)
            assert peer.called() == 1
            assert isinstance(invoke(domain, "work"), Output)

    def test_an_error_is_a_failure(self) -> None:
        """Such as a tool that the server does not know."""
        error = {"code": -32602, "message": "Unknown tool: work"}

        def reply(request: dict[str, Any]) -> Reply:
            message = {"jsonrpc": "2.0", "id": request["id"], "error": error}
            return Reply(body=json.dumps(message).encode())

        with http_peer(reply) as peer, mcp_domain(http_table(peer.url)) as domain:
            assert invoke(domain, "work") == MethodFailed("-32602: Unknown tool: work")

    def test_a_server_that_says_the_connection_closed_has_answered(self) -> None:
        """The library's own word for a lost connection, said by a server, is not believed."""
        error = {"code": -32000, "message": "Connection closed"}

        def reply(request: dict[str, Any]) -> Reply:
            message = {"jsonrpc": "2.0", "id": request["id"], "error": error}
            return Reply(body=json.dumps(message).encode())

        with http_peer(reply) as peer, mcp_domain(http_table(peer.url)) as domain:
            assert isinstance(invoke(domain, "work"), MethodFailed)


class TestNoAnswer:
    """Sent, and nobody knows."""

    @pytest.mark.parametrize(
        "reply",
        [
            None,
            Reply(502),
            Reply(503),
            Reply(504),
            Reply(body=b'{"jsonrpc":', cut=True),
            Reply(kind=EVENTS, body=events(NOTIFICATION)),
        ],
        ids=["closed", "502", "503", "504", "cut", "events_without_answer"],
    )
    def test_a_lost_answer_is_in_doubt_and_asked_for_by_nobody(self, reply: Reply | None) -> None:
        """No GET resumes the stream, no POST repeats the call."""
        with (
            http_peer(lambda _: reply) as peer,
            mcp_domain(http_table(peer.url)) as domain,
        ):
            assert isinstance(invoke(domain, "work"), DomainSilent)
            assert peer.called() == 1
            assert [command for command, _, _ in peer.received if command == "GET"] == []
            peer.call = done
            assert isinstance(invoke(domain, "work"), Output)

    def test_a_call_that_is_not_answered_in_time_is_in_doubt(self) -> None:
        """The others on the same session are not touched."""
        entered, release = threading.Event(), threading.Event()

        def reply(request: dict[str, Any]) -> Reply:
            if request["params"]["arguments"].get("slow"):
                entered.set()
                release.wait()
            return done(request)

        with http_peer(reply) as peer, mcp_domain(http_table(peer.url)) as domain:
            invoke(domain, "work")
            outcome: list[object] = []
            calling = threading.Thread(
                target=lambda: outcome.append(invoke(domain, "work", slow=True, deadline_s=1.0))
            )
            calling.start()
            entered.wait()
            assert isinstance(invoke(domain, "work"), Output)
            calling.join()
            release.set()
            assert isinstance(outcome[0], DomainSilent)


class TestNothingSent:
    """No connection, no effect."""

    def test_a_server_that_is_not_there_is_unreachable(self) -> None:
        """Control: the same domain is answered once something listens there."""
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        with mcp_domain(http_table(f"http://127.0.0.1:{port}/mcp")) as domain:
            assert isinstance(invoke(domain, "work"), DomainUnreachable)

    def test_a_server_that_left_between_two_calls_is_unreachable(self) -> None:
        """A connection that is refused before a byte has left is no doubt."""
        with http_peer() as peer:
            domain = self._opened(peer.url)
            try:
                assert isinstance(invoke(domain, "work"), Output)
                peer.received.clear()
            except BaseException:
                domain.close()
                raise
        try:
            outcome = invoke(domain, "work")
            # The connection that stood may take the call before it is known to be dead.
            assert isinstance(outcome, DomainUnreachable | DomainSilent)
            assert isinstance(invoke(domain, "work"), DomainUnreachable)
        finally:
            domain.close()

    def _opened(self, url: str) -> McpDomain:
        from tests.fakes.accepted_definitions import AcceptedByTest
        from tests.harness.mcp import mcp_declaration

        return McpDomain(
            mcp_declaration(http_table(url)),
            accepted=AcceptedByTest(),
            on_session=lambda _, __: None,
            on_doubt=lambda _: None,
        )

    def test_a_forgotten_session_is_opened_anew_for_the_next_call(self) -> None:
        """404 with a session: this call was refused, the next one shakes hands first."""
        replies = [Reply(404)]
        with (
            http_peer(lambda request: replies.pop() if replies else done(request)) as peer,
            mcp_domain(http_table(peer.url)) as domain,
        ):
            assert isinstance(invoke(domain, "work"), MethodFailed)
            before = len(peer.received)
            assert isinstance(invoke(domain, "work"), Output)
            methods = [body["method"] for _, _, body in peer.received[before:] if body]
            assert methods.count("initialize") == 1
            assert peer.called() == 2


class TestTokens:
    """A bearer token comes from its file and goes to its server."""

    def test_a_token_is_sent_with_every_message(self, tmp_path: Path) -> None:
        """Read at each session; the file's last line end is none of it."""
        file = tmp_path / "token"
        file.write_text("abc.def\n")
        with (
            http_peer() as peer,
            mcp_domain(http_table(peer.url, bearer_token_file=str(file))) as domain,
        ):
            assert isinstance(invoke(domain, "work"), Output)
            sent = {headers.get("authorization") for _, headers, _ in peer.received}
        assert sent == {"Bearer abc.def"}

    def test_a_token_that_is_missing_makes_the_domain_unreachable(self, tmp_path: Path) -> None:
        """The operator is told the file, and nothing is sent."""
        told: list[str] = []
        table_of = http_table
        with http_peer() as peer:
            table = table_of(peer.url, bearer_token_file=str(tmp_path / "none"))
            with mcp_domain(table, told=told) as domain:
                assert isinstance(invoke(domain, "work"), DomainUnreachable)
            assert peer.received == []
        assert any("cannot be read as a bearer token" in sentence for sentence in told)


def test_a_result_that_asks_for_something_back_is_a_failure() -> None:
    """The newer generation's way to ask is not answered either. Spoken by hand here."""

    def modern(request: dict[str, Any]) -> Reply:
        return result(request, {"resultType": "input_required", "inputRequests": {}})

    with http_peer(modern) as peer, mcp_domain(http_table(peer.url)) as domain:
        outcome = invoke(domain, "work")
        assert isinstance(outcome, AnswerInvalid | MethodFailed)
        assert peer.called() == 1
