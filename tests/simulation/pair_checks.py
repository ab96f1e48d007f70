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
from tests.system.invariants import LogInvariants

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
        self._below = _LogBelow()
        self._leaves_above: list[bytes] = []
        # The end of each submission in Stage-4's log.
        self._ended_above: dict[str, dict[str, Any]] = {}
        self.told: list[Told] = []
        self.secrets: set[str] = set()

    def verify(self) -> None:
        """Assert all of it. Stage-3 is asked only while it is up."""
        # I7 of Stage-4: what was readable stays; a restart appends.
        for leaf in _appended(self._leaves_above, self._world.stage4_leaves()):
            event = json.loads(leaf)
            if event.get("event_type") in {"execution_completed", "execution_failed"}:
                self._ended_above[event["plan_id"]] = event
            self._verify_secrets(leaf.decode())
        if self._world.stage3 is not None:
            self._verify_stage3()
        for told in self.told:
            _verify_told_by_stage4(told, self._ended_above.get(told.plan_id))

    def _verify_stage3(self) -> None:
        world = self._world
        assert world.stage3 is not None
        assert world.stage3.sealed == []
        # I7: whatever was durable once is durable now, in its place.
        for leaf in _appended(self._below.leaves, world.stage3_leaves()):
            self._below.follow(leaf)
            self._verify_secrets(leaf.decode())
        head, frontier = world.stage3.ledger.head, self._below.frontier
        assert (head.size, head.root) == (frontier.size, frontier.root())
        effects = world.domain.trial.effects
        self._below.verify_effects(effects)
        with_effects = {key.rpartition("/")[0] for key in effects}
        for told in self.told:
            assert told.effects != "none" or told.plan_id not in with_effects, told
            self._below.verify_told(told)

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
        met.update(self._below.met)
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


class _LogBelow:
    """Stage-3's log as it grows, and what of it answers are held to."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.frontier = Frontier()
        self.met: Counter[str] = Counter()
        self._invariants = LogInvariants()
        self._replay = GatesReplay()
        # The one terminal event of each plan, and the admission of each plan that was admitted.
        self._ends: dict[str, dict[str, Any]] = {}
        self._admitted: dict[str, dict[str, Any]] = {}
        self._started: set[str] = set()
        # The one plan that was started for each request of a caller and user.
        self._plan_of: dict[tuple[str, str, str], str] = {}

    def follow(self, leaf: bytes) -> None:
        """Assert that this may come next, and remember it."""
        event = json.loads(leaf)
        self.frontier = self.frontier.append(leaf_hash(leaf))
        self._invariants.follow([event])
        # I10.
        self._replay.follow(event)
        self.met[event["event_type"]] += 1
        plan_id = event["plan_id"]
        if event["additional_data"].get("terminal") is True:
            self._ends[plan_id] = event
        if (event["event_type"], event["status"]) == ("TOKEN_VALIDATION", "success"):
            assert plan_id not in self._admitted, event
            self._admitted[plan_id] = event
        if event["event_type"] == "EXECUTION_STARTED":
            self._started.add(plan_id)
            # I1 of requests: one plan each.
            admission = self._admitted[plan_id]
            facts = admission["additional_data"]
            request = facts["caller"], admission["user_id"], facts["request_id"]
            assert self._plan_of.setdefault(request, plan_id) == plan_id, event

    def verify_effects(self, effects: list[str]) -> None:
        """I1, I2, and I5 of requests: no plan runs while nobody executes one."""
        self._invariants.verify_effects(effects)
        assert self._started <= self._ends.keys()

    def verify_told(self, told: Told) -> None:
        """I8: an outcome that a client was told is the plan's end in Stage-3's log."""
        if told.reason in NOBODY_KNOWS:
            return
        end = self._ends.get(told.executed_plan_id)
        if told.reason in UNRECORDED_BELOW and end is None:
            return
        assert end is not None, told
        admission = self._admitted.get(told.executed_plan_id)
        assert admission is None or admission["additional_data"]["caller"] == told.caller, told
        assert (end["reason"] or "") == told.reason, (told, end)
        if told.reason == "":
            assert (end["event_type"], end["status"]) == ("EXECUTION_COMPLETED", "success"), told


def _appended(known: list[bytes], found: list[bytes]) -> list[bytes]:
    """Return what a log has gained, and know it from now on; all that was known must be there."""
    assert found[: len(known)] == known
    gained = found[len(known) :]
    known += gained
    return gained


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
