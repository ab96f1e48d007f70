"""Kill a Stage-3 at one point, start it again, and judge it by the crash matrix.

The client is Stage-4's identity, the one that may call; the world is a file beside the process and
a domain outside it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc

from servicekit.store.ledger import verify_log
from stage3_service.bootstrap import create_state
from stage3_service.settings import STORE_FILE
from tests.crash.forked import Ended, ForkServer
from tests.crash.shapes import SCOPE
from tests.harness.pki import pki
from tests.harness.remote import domain_client, write_domains_file
from tests.harness.stage3 import Stage3UnderTest, stage3_settings
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stagegate.stage3.v1.token_service_pb2 import IssueTokenResponse

    from tests.crash.points import KillPoint
    from tests.crash.shapes import Shape
    from tests.crash.world import World
    from tests.harness.stage3 import Answer


@dataclass(slots=True)
class Stage3Bench:
    """A Stage-3 of its own directory, to be killed and started again."""

    directory: Path
    server: ForkServer
    world: World
    recovered_plans: int = 0
    settings: Any = field(init=False)
    _seen: int = field(init=False)

    def __post_init__(self) -> None:
        """Write the settings; `create` makes the store."""
        self.directory.mkdir()
        self._seen = len(self.world.effects())
        self.settings = stage3_settings(
            self.directory,
            domains_file=write_domains_file(
                self.directory / "domains.json",
                self.world.address,
                name="remote",
                max_duration_s=20.0,
            ),
            domain_client=domain_client(),
        )
        (self.directory / "stage3.json").write_text(self.settings.model_dump_json())

    @property
    def store(self) -> Path:
        """Return the store."""
        return self.directory / "stage3" / STORE_FILE

    def create(self) -> None:
        """Create the store."""
        create_state(self.settings)

    def start(
        self, *, point: KillPoint | None = None, on_real_disk: bool = False
    ) -> dict[str, Any] | Ended:
        """Start the service; see `ForkServer.start`."""
        return self.server.start(
            "serve stage3",
            [self.directory, self.directory / "effects"],
            self.directory / "log",
            point=point,
            on_real_disk=on_real_disk,
        )

    @contextmanager
    def running(self, *, on_real_disk: bool = False) -> Iterator[Stage3UnderTest]:
        """Run the service, and close what speaks to it."""
        said = self.start(on_real_disk=on_real_disk)
        assert isinstance(said, dict), (said, (self.directory / "log").read_text())
        self.recovered_plans = said["recovered_plans"]
        listeners = {
            name: SimpleNamespace(address=said[name]) for name in ("plans", "operators", "probes")
        }
        stage3 = Stage3UnderTest(SimpleNamespace(**listeners), pki())  # type: ignore[arg-type]  # the parts of a service that a client sees
        try:
            yield stage3
        finally:
            stage3.close()

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect of this service's plans."""
        file = self.directory / "effects"
        written = file.read_text().split() if file.exists() else []
        return written + self.world.effects()[self._seen :]


@dataclass(slots=True)
class Interrupted:
    """Hold a plan whose service was killed: what was asked, what was told, how it ended."""

    shape: Shape
    request: Any
    token: IssueTokenResponse
    told: Answer
    ended: Ended
    revocation_told: bool


def interrupt_plan(
    bench: Stage3Bench, shape: Shape, point: KillPoint | None, *, by_effect: bool = False
) -> Interrupted:
    """Run a plan on a fresh Stage-3 and kill it at the point, or once it has answered.

    `by_effect` kills it while the domain elsewhere has the plan's first effect.
    """
    told_revoked = False
    bench.create()
    with bench.running() as stage3:
        token = stage3.issue(scope=SCOPE)
        stage3.accept("remote")

        def revoke(key: str) -> None:
            nonlocal told_revoked
            if by_effect:
                bench.server.strike()
            if shape.revoked_in is not None and key.endswith(f"/{shape.revoked_in}"):
                try:
                    stage3.revoke(token.token.token_id)
                except grpc.RpcError:
                    return
                told_revoked = True

        bench.world.on_effect = revoke
        request = stage3.request(token.token_hash, shape.steps, bindings=shape.bindings)
        # The window begins with the plan, not with the connection that it comes over.
        grpc.channel_ready_future(stage3.channel("stage4", "plans")).result(20)
        bench.server.arm(point)
        told = stage3.send(request)
        ended = bench.server.kill()
        bench.world.on_effect = lambda _key: None
    return Interrupted(shape, request, token, told, ended, told_revoked)


def judge_plan(bench: Stage3Bench, left: Interrupted) -> str:
    """Start the service again and hold it to the crash matrix; return the row it is in.

    Raises:
        AssertionError: a promise is broken.
    """
    with bench.running(on_real_disk=True) as stage3:
        try:
            return _judge(bench, left, stage3)
        finally:
            bench.server.kill()


def _judge(bench: Stage3Bench, left: Interrupted, stage3: Stage3UnderTest) -> str:
    shape, plan_id = left.shape, left.request.plan_id
    events = stage3.events(plan_id=plan_id)
    told_outcome = left.told.response is not None
    # Nobody is told anything but an outcome, or that the connection is gone.
    assert told_outcome or left.told.reason == "", left.told
    completed = {e["step"] for e in events if e["event_type"] == "EXECUTION_COMPLETED"}
    if not events:
        row = "never admitted"
        assert not told_outcome, "told, and not in the log (I8)"
        assert bench.effects() == [], "an effect without a durable start (I2)"
    elif events[-1]["additional_data"].get("recovered") is True:
        row = "in doubt"
        assert not told_outcome, "told, and in doubt after the restart (I8)"
        assert (events[-1]["event_type"], events[-1]["reason"]) == (
            "OPERATION_ABORTED",
            "STEP_IN_DOUBT",
        )
        assert completed == set(range(events[-1]["step"]))
    else:
        row = "ended"
        assert events[-1]["additional_data"].get("terminal") is True, events[-1]

    again = stage3.send(left.request)
    if row == "in doubt":
        assert (again.kind, again.ended.step) == ("in_doubt", events[-1]["step"]), again
    elif row == "never admitted" and shape.revoked_in is not None:
        # Nobody revokes the second time.
        assert again.kind == "completed", again
    else:
        assert (again.kind, again.reason) == (shape.kind, shape.reason), again
        assert again.kind == "completed" or again.ended.step == shape.last_step, again
    assert again.response is not None
    assert again.response.replay is (row != "never admitted")
    if told_outcome:
        assert again.ended == left.told.ended
    _judge_world(bench, stage3, left, again)
    if left.revocation_told:
        revoked = [event["token_id"] for event in stage3.events(event_type="TOKEN_REVOKED")]
        assert revoked == [left.token.token.token_id], "a revocation told, and not in the log (I8)"
    assert verify_log(bench.store).problem is None
    return row


def _judge_world(
    bench: Stage3Bench, stage3: Stage3UnderTest, left: Interrupted, again: Answer
) -> None:
    """Compare the effects with the log: none twice, none without a start, none lost."""
    effects, events = bench.effects(), stage3.events()
    verify_invariants(events, effects)
    plan_id, shape = left.request.plan_id, left.shape
    happened = {int(key.rpartition("/")[2]) for key in effects}
    trail = [(e["event_type"], e["step"]) for e in events if e["plan_id"] == plan_id]
    completed = {step for event_type, step in trail if event_type == "EXECUTION_COMPLETED"}
    has_effect = {index for index, item in enumerate(shape.steps) if item["method"] != "fail"}
    # What the log calls completed has happened.
    assert completed & has_effect <= happened
    if again.kind == shape.kind and shape.kind != "in_doubt":
        assert happened == shape.effects
