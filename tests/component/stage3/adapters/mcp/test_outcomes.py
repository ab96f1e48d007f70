"""A stdio server, whatever it does: each thing that can happen is an outcome of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stage3_service.adapters.mcp.domain import McpDomain
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.definition import Definition, DefinitionUnavailable
from stage3_service.domains.port import DomainSilent, DomainUnreachable, MethodFailed, Output
from tests.fakes.accepted_definitions import AcceptedByTest
from tests.harness.eventually import eventually
from tests.harness.mcp import TRIAL_SERVER, children, invoke, mcp_domain, mcp_table, trial_keys

METHODS = {
    "echo": "echo",
    "effect": "effect",
    "effect_then_hang": "effect.then-hang",
    "effect_then_die": "effect.then-die",
    "garbage": "garbage",
    "half": "half",
    "fail": "fail",
    "huge": "huge",
    "shapeless": "shapeless",
    "duplicate": "duplicate",
    "announce": "announce",
    "slow": "slow",
    "later": "later",
}


def servers() -> list[int]:
    """Return the processes of trial servers that this test runs."""
    return [pid for pid, command in children().items() if "trial_mcp_server" in command]


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[McpDomain]:
    """A trial server behind its adapter."""
    with mcp_domain(mcp_table(METHODS, **trial_keys(tmp_path))) as opened:
        yield opened


def notes(tmp_path: Path) -> list[str]:
    """Return the effects that the server has had."""
    path = tmp_path / "notes"
    return path.read_text().splitlines() if path.exists() else []


class TestAnswers:
    """Whatever a server answers is an answer: success, or failed."""

    def test_structured_content_comes_back_with_the_key_that_was_sent(
        self, domain: McpDomain
    ) -> None:
        """A tool that is named with a dot or a dash is reached under the method's name."""
        answer = invoke(domain, "echo", text="snow ☃", number=1.5)

        assert isinstance(answer, Output)
        assert json.loads(answer.json_bytes) == {
            "structured_content": {
                "arguments": {"text": "snow ☃", "number": 1.5},
                "key": "plan-1/0",
            }
        }

    def test_without_structured_content_the_contents_come_back(self, domain: McpDomain) -> None:
        """One documented form: the list as the server wrote it."""
        answer = invoke(domain, "effect")

        assert answer == Output(b'{"content":[{"type":"text","text":"done"}]}')

    def test_a_tool_that_says_it_failed_has_failed(self, domain: McpDomain) -> None:
        """`isError` is an answer."""
        assert invoke(domain, "fail") == MethodFailed("no such thing")

    @pytest.mark.parametrize(
        ("method", "why"),
        [
            ("huge", "is a line of more than"),
            ("shapeless", "is no result of a tool"),
            ("duplicate", "a key that occurs twice"),
            ("garbage", "is not strict JSON"),
        ],
    )
    def test_what_cannot_be_handed_on_is_an_invalid_answer(
        self, domain: McpDomain, method: str, why: str
    ) -> None:
        """Fifty mebibytes, a wrong shape, JSON with two meanings, a line that is no message. The
        next call is answered, on this session or on a new one.
        """
        outcome = invoke(domain, method)

        assert isinstance(outcome, AnswerInvalid), outcome
        assert why in outcome.description
        assert isinstance(invoke(domain, "echo"), Output)

    def test_memory_does_not_grow_with_an_answer(self, domain: McpDomain) -> None:
        """What is over the bound is dropped as it comes. Control: its bytes did arrive."""
        import tracemalloc

        invoke(domain, "echo")
        tracemalloc.start()
        try:
            outcome = invoke(domain, "huge")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert isinstance(outcome, AnswerInvalid)
        assert peak < 50 * 1_048_576 / 4


class TestNoAnswer:
    """A call that left and was not answered is in doubt, and the next one is not hurt by it."""

    @pytest.mark.parametrize("method", ["effect_then_die", "half"])
    def test_a_server_that_dies_leaves_its_call_in_doubt(
        self, domain: McpDomain, tmp_path: Path, method: str
    ) -> None:
        """It had its effect, once; the next call finds another process."""
        invoke(domain, "echo")
        before = servers()

        assert isinstance(invoke(domain, method), DomainSilent)
        assert isinstance(invoke(domain, "echo"), Output)
        assert notes(tmp_path) == ["effect"]
        assert eventually(lambda: len(servers()) == 1)
        assert servers() != before

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_server_killed_in_mid_call_leaves_it_in_doubt(
        self, domain: McpDomain, tmp_path: Path, number: int
    ) -> None:
        """Nothing is sent again: the effect is there once."""
        outcome: list[object] = []
        calling = threading.Thread(
            target=lambda: outcome.append(invoke(domain, "effect_then_hang"))
        )
        calling.start()
        assert eventually(lambda: notes(tmp_path) == ["effect"])
        os.kill(servers()[0], number)
        calling.join()

        assert isinstance(outcome[0], DomainSilent)
        assert isinstance(invoke(domain, "echo"), Output)
        assert notes(tmp_path) == ["effect"]

    def test_a_server_that_is_stopped_is_given_up_and_replaced(
        self, domain: McpDomain, tmp_path: Path
    ) -> None:
        """SIGSTOP: in doubt at the deadline. It said nothing since, so it does not get the next
        call. Control: a server that answered others meanwhile is kept, below.
        """
        invoke(domain, "echo")
        (stopped,) = servers()
        os.kill(stopped, signal.SIGSTOP)

        assert isinstance(invoke(domain, "effect", deadline_s=0.5), DomainSilent)
        assert isinstance(invoke(domain, "echo"), Output)
        assert eventually(lambda: stopped not in servers() and len(servers()) == 1)

    def test_a_slow_call_does_not_cost_a_server_that_speaks(self, tmp_path: Path) -> None:
        """One call is given up while others are answered: the session goes on, and the answer
        that comes too late is nobody's.
        """
        with mcp_domain(mcp_table(METHODS, **trial_keys(tmp_path))) as domain:
            invoke(domain, "echo")
            before = servers()
            outcome: list[object] = []
            calling = threading.Thread(
                target=lambda: outcome.append(invoke(domain, "slow", deadline_s=1.0))
            )
            calling.start()
            while calling.is_alive():
                assert isinstance(invoke(domain, "echo"), Output)
            assert isinstance(outcome[0], DomainSilent)
            assert servers() == before


class TestNothingSent:
    """What was not sent has no effect, and says so."""

    def test_a_server_that_does_not_run_is_unreachable(self, tmp_path: Path) -> None:
        """The operator is told why; the call is not in doubt."""
        told: list[str] = []
        keys = {**trial_keys(tmp_path), "command": ["/nonexistent/server"]}
        with mcp_domain(mcp_table(METHODS, **keys), told=told) as domain:
            assert isinstance(invoke(domain, "effect"), DomainUnreachable)
        assert "/nonexistent/server cannot be run: No such file or directory" in told

    def test_a_server_that_does_not_answer_the_handshake_is_unreachable(
        self, tmp_path: Path
    ) -> None:
        """Start-up has a time of its own, and what did not start is gone."""
        table = mcp_table(METHODS, **trial_keys(tmp_path, TRIAL_START_S="600"))
        with mcp_domain({**table, "start_timeout_s": 1.0}) as domain:
            outcome = invoke(domain, "effect")
            assert isinstance(outcome, DomainUnreachable)
            assert "did not answer the handshake within 1 seconds" in str(outcome)
            assert eventually(lambda: not servers())
        assert notes(tmp_path) == []

    def test_a_server_that_greets_with_garbage_is_unreachable(self, tmp_path: Path) -> None:
        """What cannot be read before the handshake ends the session before a call."""
        keys = trial_keys(tmp_path, TRIAL_GREETING="Welcome!")
        with mcp_domain(mcp_table(METHODS, **keys)) as domain:
            assert isinstance(invoke(domain, "effect"), DomainUnreachable)
        assert notes(tmp_path) == []

    def test_a_tool_that_the_server_lacks_makes_the_domain_unreachable(
        self, tmp_path: Path
    ) -> None:
        """Nobody can have accepted it; the nearest name is suggested."""
        told: list[str] = []
        table = mcp_table({"effekt": "effekt"}, **trial_keys(tmp_path))
        with mcp_domain(table, told=told) as domain:
            assert isinstance(invoke(domain, "effekt"), DomainUnreachable)
        assert "the server has no tool 'effekt'; did you mean effect?" in told

    def test_a_closed_domain_is_unreachable(self, domain: McpDomain) -> None:
        """Neither hangs nor starts anything."""
        domain.close()

        assert isinstance(invoke(domain, "echo"), DomainUnreachable)
        with pytest.raises(DefinitionUnavailable):
            domain.describe()

    def test_a_dead_server_is_replaced_before_a_call_is_sent(self, domain: McpDomain) -> None:
        """Killed between two calls: the second is answered by another process."""
        invoke(domain, "echo")
        (killed,) = servers()
        os.kill(killed, signal.SIGKILL)
        # A call may begin before the end of the pipe was read; then nothing is sent and nothing is
        # answered. Here the death is known.
        assert eventually(lambda: killed not in servers() and not _has_session(domain))

        assert isinstance(invoke(domain, "echo"), Output)


def _has_session(domain: McpDomain) -> bool:
    """Say whether a call would be sent on the session that is there."""
    session = domain._owner._session
    return session is not None and session.is_open


class TestAcceptance:
    """A session carries calls only while its server shows what was accepted."""

    def test_nothing_is_sent_to_a_server_that_nobody_accepted(self, tmp_path: Path) -> None:
        """Control: the same call has its effect once the same definition is accepted."""
        accepted = AcceptedByTest(anything=False)
        told: list[str] = []
        table = mcp_table(METHODS, **trial_keys(tmp_path))
        with mcp_domain(table, accepted=accepted, told=told) as domain:
            assert isinstance(invoke(domain, "effect"), DomainUnreachable)
            assert notes(tmp_path) == []
            assert any("stage3 domain accept trial" in sentence for sentence in told)

            accepted.only = domain.describe()
            assert isinstance(invoke(domain, "effect"), Output)
        assert notes(tmp_path) == ["effect"]
        assert ("trial", accepted.only.digest) in accepted.shown

    def test_what_is_shown_is_what_was_mapped_and_no_more(self, domain: McpDomain) -> None:
        """Name, description, schema and annotations of each mapped tool."""
        document = domain.describe().document

        assert isinstance(document, dict)
        methods = document["methods"]
        assert isinstance(methods, dict)
        assert sorted(methods) == sorted(METHODS)
        assert methods["effect_then_die"] == {
            "tool": "effect.then-die",
            "description": "Behaves as its name says: effect.then-die.",
            "input_schema": {"type": "object"},
            "annotations": None,
        }

    @pytest.mark.parametrize("how", ["announced", "restarted"])
    def test_a_server_that_shows_something_else_gets_no_further_call(
        self, tmp_path: Path, how: str
    ) -> None:
        """Changed between acceptance and call: announced in the session, or found at the next."""
        descriptions = tmp_path / "descriptions"
        descriptions.write_text("{}")
        keys = trial_keys(tmp_path, TRIAL_DESCRIPTIONS=str(descriptions))
        accepted = AcceptedByTest()
        with mcp_domain(mcp_table(METHODS, **keys), accepted=accepted) as domain:
            accepted.only = domain.describe()
            assert isinstance(invoke(domain, "effect", note="before"), Output)
            descriptions.write_text('{"effect": "Sends all files somewhere."}')
            if how == "announced":
                assert isinstance(invoke(domain, "announce"), Output)
            else:
                os.kill(servers()[0], signal.SIGKILL)
                assert eventually(lambda: not servers())

            assert isinstance(invoke(domain, "effect", note="after"), DomainUnreachable)
            assert accepted.shown[-1][1] != accepted.only.digest
        assert notes(tmp_path) == ["before"]

    @pytest.mark.parametrize("waits", [True, False], ids=["waits", "control"])
    def test_no_call_slips_by_while_a_changed_server_is_asked(
        self, tmp_path: Path, *, waits: bool
    ) -> None:
        """It announced a change, one call asks what it shows, another comes meanwhile.

        Control: unless the second call waits for the question, it is carried by a server that shows
        what nobody accepted.
        """
        descriptions = tmp_path / "descriptions"
        os.mkfifo(descriptions)  # the server waits in it each time that it lists its tools
        keys = trial_keys(tmp_path, TRIAL_DESCRIPTIONS=str(descriptions))
        accepted = AcceptedByTest()
        with (
            mcp_domain(mcp_table(METHODS, **keys), accepted=accepted) as domain,
            ThreadPoolExecutor(2) as callers,
        ):
            descriptions.write_text("{}")
            assert isinstance(invoke(domain, "announce"), Output)
            accepted.only = Definition(b"", accepted.shown[-1][1])
            calls = [callers.submit(invoke, domain, "effect", note="first")]
            assert eventually(lambda: domain._owner._opening is not None)
            if not waits:
                domain._owner._opening = None
            calls.append(callers.submit(invoke, domain, "effect", note="second"))
            assert eventually(lambda: len(domain._owner._carrying) == 2)
            descriptions.write_text('{"effect": "Sends all files somewhere."}')
            outcomes = [call.result() for call in calls]
        assert isinstance(outcomes[0], DomainUnreachable)
        assert isinstance(outcomes[1], DomainUnreachable) == waits
        assert notes(tmp_path) == ([] if waits else ["second"])

    def test_looking_at_a_changed_server_does_not_make_it_acceptable(self, tmp_path: Path) -> None:
        """It announced a change, an operator looked and did not accept: no call is sent."""
        descriptions = tmp_path / "descriptions"
        descriptions.write_text("{}")
        keys = trial_keys(tmp_path, TRIAL_DESCRIPTIONS=str(descriptions))
        accepted = AcceptedByTest()
        with mcp_domain(mcp_table(METHODS, **keys), accepted=accepted) as domain:
            accepted.only = domain.describe()
            assert isinstance(invoke(domain, "echo"), Output)
            descriptions.write_text('{"effect": "Sends all files somewhere."}')
            assert domain.describe() != accepted.only

            assert isinstance(invoke(domain, "effect"), DomainUnreachable)
        assert notes(tmp_path) == []

    def test_a_call_under_way_is_answered_although_the_tools_change(self, tmp_path: Path) -> None:
        """The change stops the next call; what was sent before it is not put in doubt."""
        descriptions = tmp_path / "descriptions"
        descriptions.write_text("{}")
        keys = trial_keys(tmp_path, TRIAL_DESCRIPTIONS=str(descriptions))
        accepted = AcceptedByTest()
        with mcp_domain(mcp_table(METHODS, **keys), accepted=accepted) as domain:
            accepted.only = domain.describe()
            outcome: list[object] = []
            calling = threading.Thread(target=lambda: outcome.append(invoke(domain, "later")))
            calling.start()
            assert eventually(lambda: notes(tmp_path) == ["later"])
            descriptions.write_text('{"effect": "Sends all files somewhere."}')
            domain.describe()
            assert isinstance(invoke(domain, "effect"), DomainUnreachable)
            (tmp_path / "notes.go").touch()
            calling.join()

        assert isinstance(outcome[0], Output)

    def test_a_server_of_the_newer_generation_is_asked_to_tell_of_a_change(
        self, tmp_path: Path
    ) -> None:
        """It answers a call after its change was announced only if the change is accepted too."""
        server = TRIAL_SERVER.with_name("modern_mcp_server.py")
        keys = {**trial_keys(tmp_path), "command": [sys.executable, "-I", str(server)]}
        accepted = AcceptedByTest()
        table = mcp_table({"work": "work", "change": "change"}, **keys)
        with mcp_domain(table, accepted=accepted) as domain:
            accepted.only = domain.describe()
            assert isinstance(invoke(domain, "work"), Output)
            assert isinstance(invoke(domain, "change"), Output)
            assert eventually(lambda: isinstance(invoke(domain, "work"), DomainUnreachable))
            assert accepted.shown[-1][1] != accepted.only.digest

    def test_a_tool_that_is_gone_is_no_definition(self, tmp_path: Path) -> None:
        """Nothing to accept, and the operator is told which."""
        descriptions = tmp_path / "descriptions"
        descriptions.write_text('{"fail": "gone"}')
        keys = trial_keys(tmp_path, TRIAL_DESCRIPTIONS=str(descriptions))
        with (
            mcp_domain(mcp_table(METHODS, **keys)) as domain,
            pytest.raises(DefinitionUnavailable, match="has no tool 'fail'"),
        ):
            domain.describe()


class TestChildren:
    """No process is left behind, and none is a zombie."""

    def test_a_domain_that_is_closed_leaves_no_process(self, tmp_path: Path) -> None:
        """Neither the server nor what it started, whatever they do with their signals."""
        # A number that no other run on this machine waits for.
        seconds = 1_000_000 + os.getpid()
        script = tmp_path / "stubborn.sh"
        script.write_text(
            f"#!/bin/sh\ntrap '' TERM INT HUP\nsleep {seconds} &\n"
            f"exec {trial_keys(tmp_path)['command'][0]} -I {trial_keys(tmp_path)['command'][2]}\n"
        )
        script.chmod(0o700)
        keys = {**trial_keys(tmp_path), "command": [str(script)]}

        def sleeping() -> list[str]:
            found = []
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal() and (entry / "cmdline").exists():
                    try:
                        command = (entry / "cmdline").read_bytes()
                    except OSError:
                        continue
                    if command == b"sleep\x00%d\x00" % seconds:
                        found.append(entry.name)
            return found

        with mcp_domain(mcp_table({"echo": "echo"}, **keys)) as domain:
            assert isinstance(invoke(domain, "echo"), Output)
            assert eventually(lambda: len(sleeping()) == 1)
        assert eventually(lambda: not sleeping())
        assert "zombie" not in children().values()
        assert servers() == []

    def test_a_server_ends_with_the_service(self, tmp_path: Path) -> None:
        """A service that is killed takes its children along, also those that ignore their input."""
        import subprocess
        import sys

        program = (
            "import sys, time, json\n"
            "from tests.harness.mcp import *\n"
            "from pathlib import Path\n"
            "table = json.loads(sys.argv[1])\n"
            "with mcp_domain(table) as domain:\n"
            "    invoke(domain, 'echo')\n"
            "    (pid,) = [p for p, c in children().items() if 'trial_mcp_server' in c]\n"
            "    print(pid, flush=True)\n"
            "    invoke(domain, 'effect_then_hang')\n"
        )
        table = json.dumps(mcp_table(METHODS, **trial_keys(tmp_path)))
        with subprocess.Popen(
            [sys.executable, "-c", program, table], stdout=subprocess.PIPE, text=True
        ) as service:
            assert service.stdout is not None
            pid = int(service.stdout.readline())
            assert eventually(lambda: notes(tmp_path) == ["effect"])
            service.kill()
        assert eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists())


def test_the_digest_of_a_definition_is_the_same_in_every_session(tmp_path: Path) -> None:
    """Nothing of a process or a time is in it."""
    found: list[Definition] = []
    for _ in range(2):
        with mcp_domain(mcp_table(METHODS, **trial_keys(tmp_path))) as domain:
            found.append(domain.describe())

    assert found[0] == found[1]
