"""I1 to I11 over both logs, the world, and all that clients were ever told.

I1 to I7 and I9 of one log are in `tests/system/invariants.py`, I10 in `gates_replay`; here is what
needs both services. Deliberately absent: any knowledge of what was submitted, except secrets.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from servicekit.tlog.tree import Frontier, leaf_hash
from tests.simulation.gates_replay import GatesReplay
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from tests.simulation.pair_world import PairWorld, Told

# Answers that say nothing about what became of a plan.
NOBODY_KNOWS = {"OUTCOME_UNKNOWN", "OUTCOME_UNRECORDED", "OUTCOME_PENDING"}
# Answers that leave no event at Stage-3: it was not asked, or said no before it began.
UNRECORDED_BELOW = {
    *("STAGE3_UNREACHABLE", "CLIENT_CANCELLED", "DEADLINE_EXCEEDED", "PLAN_INVALID"),
    *("REQUEST_IN_PROGRESS", "SERVICE_HALTED", "AUDIT_UNAVAILABLE"),
}


class PairChecks:
    """Remember what was seen and told, and hold the pair to it after every rule."""

    def __init__(self, world: PairWorld) -> None:
        self._world = world
        self._leaves: list[bytes] = []
        self._events: list[dict[str, Any]] = []
        self._frontier = Frontier()
        self._replay = GatesReplay()
        self.told: list[Told] = []
        self.secrets: set[str] = set()
        self._stage4_seen: list[dict[str, Any]] = []

    def verify(self) -> None:
        """Assert all of it. Stage-3 is asked only while it is up."""
        above = self._world.stage4_leaves()
        # I7 of Stage-4: what was readable stays; a restart appends.
        assert above[: len(self._stage4_seen)] == self._stage4_seen
        self._stage4_seen = above
        if self._world.stage3 is not None:
            self._verify_stage3()
            for told in self.told:
                self._verify_told_by_stage3(told)
        ended = {
            event["plan_id"]: event
            for event in above
            if event.get("event_type") in {"execution_completed", "execution_failed"}
        }
        for told in self.told:
            _verify_told_by_stage4(told, ended.get(told.plan_id))
        self._verify_secrets(json.dumps(above))

    def _verify_stage3(self) -> None:
        world = self._world
        assert world.stage3 is not None
        assert world.stage3.sealed == []
        leaves = world.stage3_leaves(0)
        # I7: whatever was durable once is durable now, in its place.
        assert leaves[: len(self._leaves)] == self._leaves
        new = leaves[len(self._leaves) :]
        self._leaves = leaves
        for leaf in new:
            event = json.loads(leaf)
            self._frontier = self._frontier.append(leaf_hash(leaf))
            # I10.
            self._replay.follow(event)
            self._events.append(event)
            self._verify_secrets(leaf.decode())
        head = world.stage3.ledger.head
        assert (head.size, head.root) == (self._frontier.size, self._frontier.root())
        effects = world.domain.trial.effects
        verify_invariants(self._events, effects)
        self._verify_requests(effects)

    def _verify_requests(self, effects: list[str]) -> None:
        """I1 and I5 of requests: one admission each; and no plan runs while nobody executes one."""
        admitted: dict[tuple[str, str, str], str] = {}
        ends = {
            event["plan_id"]
            for event in self._events
            if event["additional_data"].get("terminal") is True
        }
        started = {
            event["plan_id"] for event in self._events if event["event_type"] == "EXECUTION_STARTED"
        }
        for event in self._events:
            if (event["event_type"], event["status"]) == ("TOKEN_VALIDATION", "success"):
                facts = event["additional_data"]
                scope = facts["caller"], event["user_id"], facts["request_id"]
                if event["plan_id"] in started:
                    assert admitted.setdefault(scope, event["plan_id"]) == event["plan_id"], event
        assert started <= ends
        assert {key.rpartition("/")[0] for key in effects} <= started

    def _verify_told_by_stage3(self, told: Told) -> None:
        """I8: an outcome that a client was told is the plan's end in Stage-3's log."""
        if told.effects == "none":
            happened = [
                key
                for key in self._world.domain.trial.effects
                if key.startswith(f"{told.plan_id}/")
            ]
            assert happened == [], told
        if told.reason in NOBODY_KNOWS:
            return
        ends = [
            event
            for event in self._events
            if event["plan_id"] == told.executed_plan_id
            and event["additional_data"].get("terminal") is True
        ]
        if told.reason in UNRECORDED_BELOW and not ends:
            return
        assert len(ends) == 1, told
        (end,) = ends
        admitted = [
            event["additional_data"]["caller"]
            for event in self._events
            if event["plan_id"] == told.executed_plan_id
            and (event["event_type"], event["status"]) == ("TOKEN_VALIDATION", "success")
        ]
        assert admitted in ([], [told.caller]), told
        assert (end["reason"] or "") == told.reason, (told, end)
        if told.reason == "":
            assert (end["event_type"], end["status"]) == ("EXECUTION_COMPLETED", "success"), told

    def _verify_secrets(self, text: str) -> None:
        """I11, of logs and answers."""
        for secret in self.secrets:
            assert secret not in text

    def hear(self, told: Told) -> None:
        """Remember an answer for good."""
        self._verify_secrets(told.message + told.result.decode())
        self.told.append(told)

    def met(self) -> Counter[str]:
        """Return what this run has met: answers by reason, events by type, deaths of a process."""
        met = Counter(told.reason or "completed" for told in self.told)
        met.update(event["event_type"] for event in self._events)
        met["deaths"] = self._world.deaths
        return met

    def verify_at_rest(self) -> None:
        """I11, of the files of both stores."""
        world = self._world
        directories = [world.stage4.directory]
        if world.stage3 is not None:
            directories.append(world.stage3.directory)
        for directory in directories:
            for file in directory.iterdir():
                content = file.read_bytes()
                for secret in self.secrets:
                    assert secret.encode() not in content, file.name


def _verify_told_by_stage4(told: Told, ended: dict[str, Any] | None) -> None:
    """I8: what a client was told is what Stage-4's log says of its submission."""
    if told.reason == "AUDIT_UNAVAILABLE":
        return
    assert ended is not None, told
    details = ended["details"]
    if told.reason == "":
        assert ended["event_type"] == "execution_completed", (told, ended)
    else:
        assert details["reason"] == told.reason, (told, ended)
