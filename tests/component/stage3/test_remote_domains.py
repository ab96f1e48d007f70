"""Domains elsewhere behind a running Stage-3: the same trail, the same doubt, and no way back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage3.v1 import operator_service_pb2, token_service_pb2
from stagegate.stage4.v1 import plan_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.bootstrap import build_stage3, create_state
from stage3_service.domains.declarations_reading import DeclarationsRefused
from tests.fakes.domains import trial_domain
from tests.fakes.remote_domain import RemoteDomain, running_remote_domain
from tests.harness.pki import uri
from tests.harness.processes import stage3_process
from tests.harness.remote import domain_client, remote_process, write_domains_file
from tests.harness.stage3 import Stage3UnderTest, running_stage3, stage3_settings, step
from tests.harness.stage4 import running_stage4

TRIAL = {"trial": ("echo", "effect", "effect_then_hang", "fail", "garbage", "oversized", "hang")}
IN_DOUBT = [
    ("TOKEN_VALIDATION", "success", None),
    ("AUTHORIZATION_SCOPE_CHECK", "success", 0),
    ("RESOURCE_LIMIT_CHECK", "success", 0),
    ("DATA_BOUNDARY_CHECK", "success", 0),
    ("EXECUTION_STARTED", "started", 0),
    ("OPERATION_ABORTED", "aborted", 0),
]


@dataclass(frozen=True, slots=True)
class World:
    """Hold a Stage-3 and the domain that it reaches over gRPC."""

    stage3: Stage3UnderTest
    remote: RemoteDomain


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Run the trial service, and a Stage-3 that has declared it."""
    with (
        running_remote_domain() as remote,
        running_stage3(
            tmp_path,
            domains_file=write_domains_file(tmp_path / "domains.json", remote.address),
            domain_client=domain_client(),
            accept=["trial"],
        ) as stage3,
    ):
        yield World(stage3, remote)


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


class TestTheSameTrail:
    """What the log says of a step does not depend on how its domain is reached."""

    @pytest.mark.parametrize("method", ["echo", "effect", "fail", "garbage", "oversized"])
    def test_a_plan_leaves_the_same_events_through_either_adapter(
        self, world: World, tmp_path: Path, method: str
    ) -> None:
        """Type, status, step, reason and the names of every recorded fact are the same."""
        steps = (step("trial", "echo", a=1), step("trial", method, b=2))
        inside = tmp_path / "inside"
        inside.mkdir()
        extra, _trial = trial_domain()
        with running_stage3(inside, extra_domains=[extra]) as builtin:
            near = builtin.run(builtin.issue(scope=TRIAL).token_hash, *steps)
            expected = facts(builtin, "plan-1")
        far = world.stage3.run(world.stage3.issue(scope=TRIAL).token_hash, *steps)
        assert (far.kind, far.reason) == (near.kind, near.reason)
        assert facts(world.stage3, "plan-1") == expected
        assert len(expected) >= 10

    def test_the_key_names_the_step(self, world: World) -> None:
        """Over the network as in the house: plan and step, nothing else."""
        token = world.stage3.issue(scope=TRIAL).token_hash
        world.stage3.run(token, step("trial", "echo"), step("trial", "effect"))
        assert [one.idempotency_key for one in world.remote.received] == ["plan-1/0", "plan-1/1"]


class TestNoWayBack:
    """A domain holds a certificate, and no door of either service is its own."""

    def test_a_domain_that_calls_back_is_refused_and_recorded(
        self, world: World, tmp_path: Path
    ) -> None:
        """In mid-call it asks Stage-3 for a plan and a token, and Stage-4 for a plan."""
        stage3, refused = world.stage3, []
        attempts: dict[str, Callable[[], object]] = {
            "plan": lambda: stage3.plans("domain").ExecuteMultiDomainPlan(
                stage3.request("token_" + "A" * 43, [step("trial", "effect")]), timeout=5
            ),
            "token": lambda: stage3.tokens("domain").IssueToken(
                token_service_pb2.IssueTokenRequest(), timeout=5
            ),
            "halt": lambda: stage3.operator("domain").Halt(
                operator_service_pb2.HaltRequest(reason="mine"), timeout=5
            ),
        }
        with running_stage4(tmp_path, stage3.service.plans.address) as stage4:
            attempts["stage4"] = lambda: stage4.plans("domain").ExecutePlan(
                plan_service_pb2.ExecutePlanRequest(plan_json=b"{}"), timeout=5
            )

            def call_back() -> None:
                for name, attempt in attempts.items():
                    with pytest.raises(grpc.RpcError) as caught:
                        attempt()
                    refused.append((name, decode_rpc_error(caught.value).reason))

            world.remote.on_call = call_back
            answer = stage3.run(stage3.issue(scope=TRIAL).token_hash, step("trial", "echo"))
            records = [one for one in stage4.events("reader") if "record_type" in one]
        assert refused == [(name, "METHOD_NOT_PERMITTED") for name in attempts]
        assert answer.kind == "completed"
        assert [event["event_type"] for event in stage3.events(plan_id="plan-1")].count(
            "BOUNDARY_VIOLATION"
        ) == 0
        violations = stage3.events(event_type="BOUNDARY_VIOLATION")
        assert [event["reason"] for event in violations] == [
            "stage3_recursive_invoke",
            "token_grant",
            "config_modify",
        ]
        assert {event["additional_data"]["caller"] for event in violations} == {uri("domain")}
        assert {event["plan_id"] for event in violations} == {None}
        assert world.remote.trial.effects == []
        assert [(one["record_type"], one["caller"]) for one in records] == [
            ("caller_refused", uri("domain"))
        ]

    def test_the_certificate_for_domains_opens_no_door_either(self, world: World) -> None:
        """Stage-3's own identity towards domains is no caller of Stage-3."""
        with pytest.raises(grpc.RpcError) as caught:
            world.stage3.plans("stage3").ExecuteMultiDomainPlan(
                world.stage3.request("token_" + "A" * 43, [step("trial", "effect")]), timeout=5
            )
        assert decode_rpc_error(caught.value).reason == "METHOD_NOT_PERMITTED"


class TestDoubt:
    """A call that is cut off is in doubt, whichever side died, and is never sent again."""

    def test_a_killed_stage3_leaves_the_step_in_doubt(self, tmp_path: Path) -> None:
        """The effect happened, nobody heard of it; recovery says so and calls nobody."""
        with remote_process(tmp_path) as remote:
            # The process has a trial domain of its own: this one goes by another name.
            declared = write_domains_file(
                tmp_path / "domains.json", remote.address, name="far", max_duration_s=60
            )
            over_grpc = _killed_in_mid_call(tmp_path / "far", "far", remote.effects, declared)
            assert remote.effects() == ["plan-1/0"]
        in_process = _killed_in_mid_call(tmp_path / "near", "trial", None, None)
        assert over_grpc == in_process == IN_DOUBT

    def test_a_killed_domain_leaves_the_step_in_doubt_and_its_answer_is_stored(
        self, tmp_path: Path
    ) -> None:
        """The same request asks nobody again, also once the domain is back."""
        with (
            remote_process(tmp_path) as remote,
            running_stage3(
                tmp_path,
                domains_file=write_domains_file(
                    tmp_path / "domains.json", remote.address, max_duration_s=20
                ),
                domain_client=domain_client(),
                accept=["trial"],
            ) as stage3,
        ):
            token = stage3.issue(scope=TRIAL).token_hash
            request = stage3.request(token, [step("trial", "effect_then_hang")])
            answers = []
            waiting = threading.Thread(target=lambda: answers.append(stage3.send(request)))
            waiting.start()
            while not remote.effects():
                pass
            remote.end()
            waiting.join(20)
            (answer,) = answers
            assert (answer.kind, answer.reason) == ("in_doubt", "STEP_IN_DOUBT")
            assert stage3.trail("plan-1") == IN_DOUBT
            remote.start()
            assert stage3.send(request).kind == "in_doubt"
            assert remote.effects() == ["plan-1/0"]


def _killed_in_mid_call(
    directory: Path, domain: str, effects: Any, domains_file: Path | None
) -> list[tuple[str, str, int | None]]:
    """Kill Stage-3 once the effect is in the world; return the trail after its restart."""
    directory.mkdir()
    changes = (
        {}
        if domains_file is None
        else {"domains_file": domains_file, "domain_client": domain_client()}
    )
    with stage3_process(directory, **changes) as process:
        stage3 = process.under_test
        if domains_file is not None:
            stage3.accept(domain)
        token = stage3.issue(scope={domain: TRIAL["trial"]}).token_hash
        request = stage3.request(token, [step(domain, "effect_then_hang")])
        waiting = threading.Thread(target=lambda: stage3.send(request))
        waiting.start()
        while not (effects or process.effects)():
            pass
        process.kill()
        waiting.join(20)
        stage3 = process.start()
        assert process.recovered_plans == 1
        assert stage3.send(request).kind == "in_doubt"
        assert (effects or process.effects)() == ["plan-1/0"]
        return stage3.trail("plan-1")


class TestTheStart:
    """A Stage-3 that could not keep its promises to a domain elsewhere does not start."""

    def test_a_domain_elsewhere_needs_a_certificate_to_show(self, tmp_path: Path) -> None:
        """The problem names the domain and the setting."""
        settings = stage3_settings(
            tmp_path, domains_file=write_domains_file(tmp_path / "d.json", "127.0.0.1:1")
        )
        with pytest.raises(DeclarationsRefused, match=r"domains\.trial.*\[domain_client\]"):
            build_stage3(settings)

    def test_a_domain_that_is_down_does_not_keep_stage3_from_starting(self, tmp_path: Path) -> None:
        """Its steps fail with no effect; the other domains are served."""
        client = domain_client().model_copy(update={"connect_timeout_s": 0.3})
        with running_remote_domain() as remote:
            file = write_domains_file(tmp_path / "d.json", remote.address)
            with running_stage3(
                tmp_path, domains_file=file, domain_client=domain_client(), accept=["trial"]
            ):
                pass
        with running_stage3(
            tmp_path, domains_file=file, domain_client=client, create=False
        ) as stage3:
            scope = {**TRIAL, "text": ("upper",)}
            token = stage3.issue(scope=scope).token_hash
            down = stage3.run(token, step("trial", "effect"))
            up = stage3.run(token, step("text", "upper", text="a"))
        assert (down.kind, down.reason) == ("failed", "DOMAIN_UNREACHABLE")
        assert up.outputs == [{"text": "A"}]

    def test_the_insecure_flag_reaches_loopback_without_certificates(self, tmp_path: Path) -> None:
        """For development: nothing to show, nobody but this machine to call."""
        settings = stage3_settings(
            tmp_path,
            domains_file=write_domains_file(tmp_path / "d.json", "127.0.0.1:1"),
            insecure_loopback=True,
        )
        create_state(settings)
        service = build_stage3(settings)
        service.stop(0.0)
        assert "trial" in service._domains.opened.domains
