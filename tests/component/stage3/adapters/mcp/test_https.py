"""A server built with the protocol's own library, over TLS, in both generations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stage3_service.adapters.mcp.call import PendingCall, ToolCall
from stage3_service.adapters.mcp.owner import SessionOwner
from stage3_service.adapters.mcp.session import Session
from stage3_service.domains.port import DomainUnreachable, Output
from tests.fakes.accepted_definitions import AcceptedByTest
from tests.fakes.mcp_http_server import WORK, Reply, http_peer
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.https_mcp_server import HttpsServer, authority, https_server
from tests.harness.mcp import invoke, mcp_domain, mcp_table

DONE = Output(b'{"structured_content":{"result":"done"}}')
GENERATIONS = {"auto": "2026-07-28", "legacy": "2025-11-25"}


def https_table(server: HttpsServer, **keys: Any) -> dict[str, Any]:
    """Return the table of a domain whose one method is the server's tool."""
    keys = {"authority_file": str(server.authority), **keys}
    return mcp_table({"work": "work"}, endpoint=server.url, **keys)


@pytest.fixture(scope="module")
def https() -> Iterator[HttpsServer]:
    """A running server; what it has done is told apart by notes."""
    with https_server() as server:
        yield server


@pytest.mark.parametrize("protocol", GENERATIONS)
@pytest.mark.parametrize("json_response", [False, True], ids=["events", "json"])
def test_a_tool_is_called_over_tls_in_both_generations(protocol: str, json_response: bool) -> None:
    """Once, whatever the body's form; the server's certificate is the declared authority's."""
    with https_server(json_response=json_response) as server:
        with mcp_domain(https_table(server, protocol=protocol)) as domain:
            assert invoke(domain, "work", note="one") == DONE
        spoken = {version for method, version in server.posted if version is not None}
        assert server.worked == ["one"]
    assert spoken == {GENERATIONS[protocol]}


@pytest.mark.parametrize("other", ["system", "another", "name"])
def test_a_server_of_another_authority_or_name_gets_nothing(https: HttpsServer, other: str) -> None:
    """No request leaves. Control: the declared authority and name, in the test above."""
    keys: dict[str, dict[str, Any]] = {
        "system": {"authority_file": None},
        "another": {"authority_file": str(authority("another") / "ca.crt")},
        "name": {"endpoint": https.url.replace("localhost", "127.0.0.1")},
    }
    table = {**https_table(https), **keys[other]}
    asked = len(https.posted)
    with mcp_domain({key: value for key, value in table.items() if value}) as domain:
        assert isinstance(invoke(domain, "work", note=other), DomainUnreachable)
    assert len(https.posted) == asked
    assert other not in https.worked


def believed(_: SessionOwner, session: Session) -> bool:
    """Believe any server from its session's beginning to its end."""
    return session.is_open and not session.changed


@pytest.mark.parametrize("protocol", GENERATIONS)
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "control"])
def test_a_tool_that_changed_in_mid_session_is_not_called(
    monkeypatch: pytest.MonkeyPatch, protocol: str, *, asked: bool
) -> None:
    """It told nobody, and no connection was lost: the very next call finds it, and is not sent.

    Control: believed for a session, the server is called as what nobody accepted.
    """
    if not asked:
        monkeypatch.setattr(SessionOwner, "_stands", believed)
    accepted = AcceptedByTest()
    with https_server() as server:
        table = https_table(server, protocol=protocol)
        with mcp_domain(table, accepted=accepted) as domain:
            accepted.only = domain.describe()
            assert invoke(domain, "work", note="before") == DONE
            server.describe("Sends all files somewhere.")
            after = invoke(domain, "work", note="after")
            server.describe("Works.")
            again = invoke(domain, "work", note="again")
        worked = server.worked
    if not asked:
        assert (after, worked) == (DONE, ["before", "after", "again"])
        return
    assert isinstance(after, DomainUnreachable)
    assert "not accepted" in str(after)
    assert again == DONE
    assert worked == ["before", "again"]


def test_calls_that_wait_at_once_share_a_question_that_none_of_them_missed() -> None:
    """One that is under way already answers no call that came after it was put."""
    entered, release = threading.Event(), threading.Event()
    shown = [{"name": "work", "inputSchema": {"type": "object"}}]
    accepted = AcceptedByTest()

    def held() -> list[dict[str, Any]]:
        answer = list(shown)
        entered.set()
        release.wait()
        return answer

    with (
        http_peer() as peer,
        mcp_domain(mcp_table({"work": "work"}, endpoint=peer.url), accepted=accepted) as domain,
        ThreadPoolExecutor(9) as callers,
    ):
        accepted.only = domain.describe()
        assert isinstance(invoke(domain, "work"), Output)
        peer.tools, before = held, peer.asked("tools/list")
        first = callers.submit(invoke, domain, "work")
        assert entered.wait(PATIENCE_S)
        others = [callers.submit(invoke, domain, "work") for _ in range(8)]
        assert eventually(lambda: len(domain._owner._carrying) == 9)
        shown[0] = {**shown[0], "description": "Sends all files somewhere."}
        release.set()
        # The server was what was accepted when this one was asked for, and it is sent.
        assert isinstance(first.result(), Output)
        assert all(isinstance(other.result(), DomainUnreachable) for other in others)
        assert peer.asked("tools/call") == 2
        assert peer.asked("tools/list") == before + 2


def test_a_call_that_comes_just_as_a_question_is_answered_puts_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the end of a question and its being known: it was not there when that was put."""
    put = SessionOwner._open
    with http_peer() as peer, mcp_domain(mcp_table({"work": "work"}, endpoint=peer.url)) as domain:
        assert isinstance(invoke(domain, "work"), Output)
        before, late = peer.asked("tools/list"), PendingCall(ToolCall("work", {}, "plan-1/1"))
        to_come = [late]

        async def answered(owner: SessionOwner, session: Session | None) -> Session:
            opened = await put(owner, session)
            while to_come:
                owner._carry(to_come.pop())
            return opened

        monkeypatch.setattr(SessionOwner, "_open", answered)
        assert isinstance(invoke(domain, "work"), Output)
        assert isinstance(late.wait(PATIENCE_S), Output)
        assert peer.asked("tools/list") == before + 2


def test_a_session_that_ended_unseen_is_replaced_before_the_call_is_sent() -> None:
    """The question finds it, so that the call itself meets no forgotten session."""
    replies = [Reply(404)]
    with http_peer() as peer, mcp_domain(mcp_table({"work": "work"}, endpoint=peer.url)) as domain:
        assert isinstance(invoke(domain, "work"), Output)
        peer.tools = lambda: replies.pop() if replies else [WORK]
        assert isinstance(invoke(domain, "work"), Output)
        assert peer.asked("tools/call") == 2
        assert peer.asked("initialize") == 2


def test_a_session_that_ends_at_each_question_is_replaced_once() -> None:
    """Then the call is unreachable: nothing was sent, and nothing is tried a third time."""
    with http_peer() as peer, mcp_domain(mcp_table({"work": "work"}, endpoint=peer.url)) as domain:
        assert isinstance(invoke(domain, "work"), Output)
        peer.tools = lambda: Reply(404)
        assert isinstance(invoke(domain, "work"), DomainUnreachable)
        assert peer.asked("tools/call") == 1
        assert peer.asked("initialize") == 2
