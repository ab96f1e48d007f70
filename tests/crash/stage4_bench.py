"""Kill a Stage-4 at one point, start it again, and judge it by what a client may be told.

Stage-3 runs in this process and is never killed: what it did is the world.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
from stagegate.stage4.v1 import plan_service_pb2 as pb

from servicekit.clock import SystemClock
from servicekit.settings import describe_settings
from servicekit.store.ledger import verify_log
from stage4_service.bootstrap import init_store
from stage4_service.settings import STORE_FILE
from tests.crash.shapes import SCOPE
from tests.fakes.domains import trial_domain
from tests.harness.pair import plan_document
from tests.harness.pki import pki
from tests.harness.remote import domain_client, write_domains_file
from tests.harness.stage3 import running_stage3
from tests.harness.stage4 import Stage4UnderTest, stage4_settings
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.forked import Ended, ForkServer
    from tests.crash.points import KillPoint
    from tests.crash.shapes import Shape
    from tests.crash.world import World
    from tests.fakes.domains import TrialDomain
    from tests.harness.stage3 import Stage3UnderTest
    from tests.harness.stage4 import Executed


@dataclass(frozen=True, slots=True)
class Below:
    """Hold the Stage-3 that every Stage-4 of a sweep calls, and both of its domains."""

    stage3: Stage3UnderTest
    trial: TrialDomain
    world: World
    _seen: int

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect of this Stage-3's plans."""
        return [*self.trial.effects, *self.world.effects()[self._seen :]]

    def verify(self) -> None:
        """Assert I1 to I9 of all that it did."""
        verify_invariants(self.stage3.events(), self.effects())


@contextmanager
def running_below(directory: Path, world: World) -> Iterator[Below]:
    """Run Stage-3 in this process, with a domain in it and a domain elsewhere."""
    extra, trial = trial_domain(max_duration_s=20.0)
    domains = write_domains_file(
        directory / "domains.json", world.address, name="remote", max_duration_s=20.0
    )
    with running_stage3(
        directory,
        extra_domains=[extra],
        domains_file=domains,
        domain_client=domain_client(),
        accept=["remote"],
    ) as stage3:
        yield Below(stage3, trial, world, len(world.effects()))


@dataclass(slots=True)
class Stage4Bench:
    """A Stage-4 of its own directory, to be killed and started again."""

    directory: Path
    server: ForkServer
    below: Below
    settings: Any = field(init=False)

    def __post_init__(self) -> None:
        """Write the settings; `create` makes the store."""
        self.directory.mkdir()
        self.settings = stage4_settings(
            self.directory, self.below.stage3.service.plans.address, connect_timeout_s=20.0
        )
        self._config.write_text(describe_settings(self.settings))

    @property
    def _config(self) -> Path:
        return self.directory / "stage4.toml"

    @property
    def store(self) -> Path:
        """Return the store."""
        return self.directory / "stage4" / STORE_FILE

    def create(self) -> None:
        """Create the store."""
        init_store(self.settings, clock=SystemClock())

    def start(
        self, *, point: KillPoint | None = None, on_real_disk: bool = False
    ) -> dict[str, Any] | Ended:
        """Start the service; see `ForkServer.start`."""
        return self.server.start(
            "stage4",
            ["serve", "--config", self._config, "--json"],
            self.directory / "log",
            point=point,
            on_real_disk=on_real_disk,
        )

    @contextmanager
    def running(self, *, on_real_disk: bool = False) -> Iterator[Stage4UnderTest]:
        """Run the service, and close what speaks to it."""
        said = self.start(on_real_disk=on_real_disk)
        assert isinstance(said, dict), (said, (self.directory / "log").read_text())
        service: Any = SimpleNamespace(addresses=SimpleNamespace(**said["listeners"]))
        stage4 = Stage4UnderTest(service, pki())
        try:
            yield stage4
        finally:
            stage4.close()


@dataclass(slots=True)
class Unanswered:
    """Hold a plan whose Stage-4 was killed: what was asked, what was told, how it ended."""

    shape: Shape
    document: dict[str, Any]
    request_id: str
    token_id: str
    told: Executed
    ended: Ended
    effects_before: list[str]


def interrupt_submission(
    bench: Stage4Bench, shape: Shape, point: KillPoint | None, *, by_effect: bool = False
) -> Unanswered:
    """Submit a plan to a fresh Stage-4 and kill it at the point, or once it has answered.

    `by_effect` kills it while the domain elsewhere has the plan's first effect.
    """
    bench.create()
    below = bench.below
    effects_before = below.effects()
    request_id = f"request-{len(below.stage3.events(event_type='TOKEN_ISSUED'))}"
    token = below.stage3.issue(scope=SCOPE)
    changes = {} if shape.bindings is None else {"data_bindings": list(shape.bindings)}
    document = plan_document(token.token_hash, *shape.steps, **changes)

    def revoke(key: str) -> None:
        if shape.revoked_in is not None and key.endswith(f"/{shape.revoked_in}"):
            below.stage3.revoke(token.token.token_id)

    def strike_and_revoke(key: str) -> None:
        if by_effect:
            bench.server.strike()
        revoke(key)

    below.world.on_effect = strike_and_revoke
    with bench.running() as stage4:
        # The window begins with the plan, not with the connection that it comes over.
        grpc.channel_ready_future(stage4.channel()).result(20)
        bench.server.arm(point)
        told = stage4.execute(document, request_id=request_id)
        ended = bench.server.kill()
        # A plan that had not left yet runs when it is asked again, and is revoked then.
        below.world.on_effect = revoke
    return Unanswered(
        shape, document, request_id, token.token.token_id, told, ended, effects_before
    )


def judge_submission(bench: Stage4Bench, left: Unanswered) -> str:
    """Start the service again and hold it to its promises; return the row it is in.

    Raises:
        AssertionError: a promise is broken.
    """
    with bench.running(on_real_disk=True) as stage4:
        try:
            return _judge(bench, left, stage4)
        finally:
            bench.server.kill()


def _judge(bench: Stage4Bench, left: Unanswered, stage4: Stage4UnderTest) -> str:
    told = left.told
    told_outcome = told.response is not None or told.reason != ""
    events = [event for event in stage4.events("reader") if "event_type" in event]
    if not events:
        row = "nothing recorded"
        assert not told_outcome, "told, and not in the log (I8)"
        assert _plans_below(bench, left) == set(), "sent to Stage-3, and not in the log (I2)"
    else:
        row = _judge_record(stage4, left, events)
        assert row == "ended" or not told_outcome, "told, and unknown after the restart (I8)"

    again = stage4.execute(left.document, request_id=left.request_id)
    while again.reason == "REQUEST_IN_PROGRESS":
        again = stage4.execute(left.document, request_id=left.request_id)
    if told_outcome:
        assert (again.code, again.reason) == (told.code, told.reason), again
    if told.response is not None:
        assert again.completed.result_json == told.response.result_json
        assert again.completed.replay is True
    reasons = {left.shape.reason}
    if row == "unknown":
        # To Stage-3, a Stage-4 that dies is a client that leaves.
        reasons.add("CLIENT_CANCELLED")
    assert again.reason in reasons, again
    _judge_world(bench, left, again)
    assert verify_log(bench.store).problem is None
    return row


def _judge_record(stage4: Stage4UnderTest, left: Unanswered, events: list[dict[str, Any]]) -> str:
    """Hold the log to the three events of a plan; return whether it ended or is unknown."""
    (plan_id,) = {event["plan_id"] for event in events}
    types = [event["event_type"] for event in events]
    assert types[:2] == ["plan_received", "execution_started"]
    assert len(types) == 3, types
    plan = stage4.plan(plan_id)
    if events[2]["details"].get("recovered") is True:
        assert types[2] == "execution_failed"
        assert events[2]["details"]["outcome"] == "unknown"
        assert plan.state == pb.PLAN_STATE_UNKNOWN
        return "unknown"
    assert plan.reason == left.shape.reason
    assert types[2] == ("execution_failed" if plan.reason else "execution_completed")
    if left.told.response is not None:
        assert plan.result_json == left.told.response.result_json
    return "ended"


def _plans_below(bench: Stage4Bench, left: Unanswered) -> set[str]:
    """Return the plans of this submission's token that Stage-3 has heard of."""
    events = bench.below.stage3.events(token_id=left.token_id)
    return {event["plan_id"] for event in events} - {None}


def _judge_world(bench: Stage4Bench, left: Unanswered, again: Executed) -> None:
    """Compare what happened with what was told in the end: no step had its effect twice."""
    before = set(left.effects_before)
    happened = [int(key.rpartition("/")[2]) for key in bench.below.effects() if key not in before]
    assert len(happened) == len(set(happened)), f"a step had its effect twice: {happened} (I1)"
    if again.reason == left.shape.reason:
        assert set(happened) == left.shape.effects
    else:
        assert set(happened) <= left.shape.effects
    assert len(_plans_below(bench, left)) == 1
