"""MCP servers behind a running Stage-3: the same trail as any domain, and the same doubt."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stagegate.stage3.v1 import operator_service_pb2

from stage3_service.adapters import looking_again
from stage3_service.adapters.looking_again import LookingAgain
from tests.fakes.domains import trial_domain
from tests.fakes.remote_domain import running_remote_domain
from tests.harness.eventually import eventually
from tests.harness.mcp import children, mcp_table, trial_keys
from tests.harness.processes import stage3_process
from tests.harness.remote import domain_client, write_domains_file
from tests.harness.stage3 import Stage3UnderTest, nobody_looks, running_stage3, step

METHODS = {
    "echo": "echo",
    "effect": "effect",
    "effect_then_hang": "effect.then-hang",
    "fail": "fail",
    "oversized": "oversized",
    "announce": "announce",
}
TRIAL = {"trial": tuple(METHODS)}
IN_DOUBT = [
    ("TOKEN_VALIDATION", "success", None),
    ("AUTHORIZATION_SCOPE_CHECK", "success", 0),
    ("RESOURCE_LIMIT_CHECK", "success", 0),
    ("DATA_BOUNDARY_CHECK", "success", 0),
    ("EXECUTION_STARTED", "started", 0),
    ("OPERATION_ABORTED", "aborted", 0),
]


def domains_file(directory: Path, name: str = "trial", **keys: Any) -> Path:
    """Write a file that declares the trial server, with answers of at most 4,096 bytes."""
    table = mcp_table(METHODS, **{**trial_keys(directory), **keys})
    for method in table["methods"].values():
        method["max_response_bytes"] = 4096
    file = directory / "domains.json"
    file.write_text(json.dumps({"domains": {name: table}}))
    return file


def notes(directory: Path) -> list[str]:
    """Return the effects that the server has had."""
    path = directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


def facts(stage3: Stage3UnderTest, plan_id: str) -> list[dict[str, Any]]:
    """Return a plan's events without what differs between any two runs: time, place and salts."""
    differing = ("seq", "timestamp", "token_id")
    return [
        {
            key: value if key != "additional_data" else sorted(value)
            for key, value in event.items()
            if key not in differing
        }
        for event in stage3.events(plan_id=plan_id)
    ]


def offered(stage3: Stage3UnderTest) -> bool:
    """Say whether an operator is told that the trial server is offered."""
    listed = stage3.operator().ListDomains(operator_service_pb2.ListDomainsRequest())
    return next(bool(one.offered) for one in listed.domains if one.name == "trial")


@pytest.fixture
def stage3(tmp_path: Path) -> Iterator[Stage3UnderTest]:
    """A Stage-3 that has declared and accepted the trial server."""
    with running_stage3(tmp_path, domains_file=domains_file(tmp_path), accept=["trial"]) as running:
        yield running


@pytest.mark.parametrize("method", ["echo", "effect", "fail", "oversized"])
def test_a_plan_leaves_the_same_events_through_every_adapter(
    stage3: Stage3UnderTest, tmp_path: Path, method: str
) -> None:
    """In process, over gRPC, and a server of MCP: type, status, step, reason and the names of every
    recorded fact are the same.
    """
    steps = (step("trial", "echo", a=1), step("trial", method, note="b"))
    inside, remote = tmp_path / "inside", tmp_path / "remote"
    inside.mkdir()
    remote.mkdir()
    extra, _trial = trial_domain()
    with running_stage3(inside, extra_domains=[extra]) as builtin:
        near = builtin.run(builtin.issue(scope=TRIAL).token_hash, *steps)
        expected = facts(builtin, "plan-1")
    with (
        running_remote_domain() as far,
        running_stage3(
            remote,
            domains_file=write_domains_file(remote / "domains.json", far.address),
            domain_client=domain_client(),
            accept=["trial"],
        ) as over_grpc,
    ):
        over_grpc.run(over_grpc.issue(scope=TRIAL).token_hash, *steps)
        assert facts(over_grpc, "plan-1") == expected

    answer = stage3.run(stage3.issue(scope=TRIAL).token_hash, *steps)

    assert (answer.kind, answer.reason) == (near.kind, near.reason)
    assert facts(stage3, "plan-1") == expected
    assert len(expected) >= 10


def test_a_server_killed_in_mid_call_leaves_the_step_in_doubt(
    stage3: Stage3UnderTest, tmp_path: Path
) -> None:
    """The same request asks nobody again, and the next plan finds another server."""
    token = stage3.issue(scope=TRIAL).token_hash
    request = stage3.request(token, [step("trial", "effect_then_hang")])
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(stage3.send(request)))
    waiting.start()
    assert eventually(lambda: notes(tmp_path) == ["effect"])
    (server,) = [pid for pid, command in children().items() if "trial_mcp" in command]
    os.kill(server, signal.SIGKILL)
    waiting.join()

    (answer,) = answers
    assert (answer.kind, answer.reason) == ("in_doubt", "STEP_IN_DOUBT")
    assert stage3.trail("plan-1") == IN_DOUBT
    assert stage3.send(request).kind == "in_doubt"
    assert stage3.run(token, step("trial", "echo")).kind == "completed"
    assert notes(tmp_path) == ["effect"]


def test_a_killed_stage3_leaves_the_step_in_doubt(tmp_path: Path) -> None:
    """The record is that of every adapter, and the server ends with the service."""
    # The process has a trial domain of its own: this one goes by another name.
    declared = domains_file(tmp_path, "far")
    with stage3_process(tmp_path, domains_file=declared) as process:
        stage3 = process.under_test
        stage3.accept("far")
        token = stage3.issue(scope={"far": ("effect_then_hang",)}).token_hash
        request = stage3.request(token, [step("far", "effect_then_hang")])
        waiting = threading.Thread(target=lambda: stage3.send(request))
        waiting.start()
        assert eventually(lambda: notes(tmp_path) == ["effect"])
        process.kill()
        waiting.join()
        process.start()
        assert process.under_test.trail("plan-1") == IN_DOUBT
        assert process.under_test.send(request).kind == "in_doubt"
    assert notes(tmp_path) == ["effect"]


class TestAcceptance:
    """Gate 2 refuses what nobody accepted, before anything is started."""

    def test_a_server_that_nobody_accepted_gets_no_step(self, tmp_path: Path) -> None:
        """Refused before STARTED. Control: accepted, the same plan has its effect."""
        with running_stage3(tmp_path, domains_file=domains_file(tmp_path)) as stage3:
            token = stage3.issue(scope=TRIAL).token_hash
            refused = stage3.run(token, step("trial", "effect"))
            assert (refused.kind, refused.reason) == ("refused", "METHOD_UNDECLARED")
            assert [event["event_type"] for event in stage3.events(plan_id="plan-1")] == [
                "TOKEN_VALIDATION",
                "AUTHORIZATION_SCOPE_CHECK",
                "EXECUTION_DENIED",
            ]
            assert notes(tmp_path) == []
            stage3.accept("trial")
            assert stage3.run(token, step("trial", "effect")).kind == "completed"
        assert notes(tmp_path) == ["effect"]

    @pytest.mark.parametrize("looks", [True, False], ids=["looks", "control"])
    @pytest.mark.parametrize("how", ["started_anew", "told"])
    def test_a_server_that_changes_between_acceptance_and_call_gets_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, *, looks: bool
    ) -> None:
        """Its end and its word that it changed are reasons to look: gate 2 refuses before STARTED.

        Control: found by the first call, the step is started and fails; nothing is sent either way.
        """
        if not looks:
            monkeypatch.setattr(LookingAgain, "on_doubt", lambda *_: None)
        descriptions = tmp_path / "descriptions"
        descriptions.write_text("{}")
        environment = {
            "TRIAL_NOTES": str(tmp_path / "notes"),
            "TRIAL_DESCRIPTIONS": str(descriptions),
        }
        declared = domains_file(tmp_path, environment=environment)
        with running_stage3(tmp_path, domains_file=declared, accept=["trial"]) as stage3:
            token = stage3.issue(scope=TRIAL).token_hash
            assert stage3.run(token, step("trial", "effect")).kind == "completed"
            descriptions.write_text('{"effect": "Sends all files somewhere."}')
            if how == "told":
                assert stage3.run(token, step("trial", "announce")).kind == "completed"
            else:
                (server,) = [pid for pid, command in children().items() if "trial_mcp" in command]
                os.kill(server, signal.SIGKILL)
                assert eventually(lambda: server not in children())
            if looks:
                assert eventually(lambda: not offered(stage3))

            first = stage3.run(token, step("trial", "effect"))
            trail = stage3.trail("plan-3" if how == "told" else "plan-2")
            started = "EXECUTION_STARTED" in [kind for kind, _, _ in trail]
            assert (first.reason, started) == (
                ("METHOD_UNDECLARED", False) if looks else ("DOMAIN_UNREACHABLE", True)
            )
            second = stage3.run(token, step("trial", "effect"))
            assert second.reason == "METHOD_UNDECLARED"
            assert notes(tmp_path) == ["effect"]
            stage3.accept("trial")
            assert stage3.run(token, step("trial", "effect")).kind == "completed"

    @pytest.mark.parametrize("looks", [True, False], ids=["looks", "control"])
    def test_a_server_that_was_rolled_back_is_served_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, looks: bool
    ) -> None:
        """Seen, refused, undone: a refused step makes Stage-3 start it again and look, and the
        session that it looked on carries the next call. Control: nobody looks.
        """
        monkeypatch.setattr(looking_again, "PAUSE_S", 0.0)
        if not looks:
            monkeypatch.setattr(LookingAgain, "on_withheld", lambda *_: None)
        descriptions = tmp_path / "descriptions"
        descriptions.write_text("{}")
        environment = {
            "TRIAL_NOTES": str(tmp_path / "notes"),
            "TRIAL_DESCRIPTIONS": str(descriptions),
        }
        declared = domains_file(tmp_path, environment=environment)
        with running_stage3(tmp_path, domains_file=declared, accept=["trial"]) as stage3:
            token = stage3.issue(scope=TRIAL).token_hash
            descriptions.write_text('{"effect": "Sends all files somewhere."}')
            describe = operator_service_pb2.DescribeDomainRequest(domain="trial")
            assert stage3.operator().DescribeDomain(describe, timeout=20).difference
            assert stage3.run(token, step("trial", "effect")).reason == "METHOD_UNDECLARED"
            assert eventually(nobody_looks)
            descriptions.write_text("{}")
            reasons = []
            for _ in range(2):
                reasons.append(stage3.run(token, step("trial", "effect")).reason)
                assert eventually(nobody_looks)
        assert reasons == ["METHOD_UNDECLARED", "" if looks else "METHOD_UNDECLARED"]
        assert notes(tmp_path) == (["effect"] if looks else [])

    @pytest.mark.parametrize("parameters", [{"note": "x" * 41}, {"other": 1}, {"note": 1}])
    def test_parameters_that_do_not_fit_the_accepted_schema_are_not_sent(
        self, stage3: Stage3UnderTest, tmp_path: Path, parameters: dict[str, Any]
    ) -> None:
        """Gate 4 asks the schema that the server showed when it was accepted."""
        token = stage3.issue(scope=TRIAL).token_hash
        answer = stage3.run(token, step("trial", "effect", **parameters))

        assert answer.reason == "PARAMETERS_INVALID"
        assert notes(tmp_path) == []
