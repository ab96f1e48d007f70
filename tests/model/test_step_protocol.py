"""The step protocol holds in every state that the model reaches, and its errors do not."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.model.tlc import MODEL, check, check_for_long, constants, missing

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
# Of the seeded errors alone; the protocol never takes them.
SEEDED_ACTIONS = {"AskGatesEarly", "AdmitAsked"}
CONFIGURATIONS = ("embedded", "troubles", "replicas")


def configuration(name: str) -> str:
    """Return a committed configuration."""
    return (MODEL / f"{name}.cfg").read_text()


@pytest.mark.ci
def test_the_protocol_keeps_every_invariant(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """I1 to I9 hold in every reachable state, none is stuck, and every action is taken."""
    taken: dict[str, int] = {}
    for name in CONFIGURATIONS:
        folder = tmp_path / name
        folder.mkdir()
        verdict = check(folder, configuration(name), workers=2)
        record_property(
            "figure",
            f"model, {name}: {verdict.states} states, depth {verdict.depth}, 0 errors, "
            f"in {verdict.took}",
        )
        assert verdict.broken is None
        for action, count in verdict.taken.items():
            taken[action] = taken.get(action, 0) + count
    assert {action for action, count in taken.items() if count == 0} == SEEDED_ACTIONS


@pytest.mark.ci
def test_every_admitted_plan_ends_and_every_client_is_told(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With fair processes and crashes that end, no plan runs for ever."""
    verdict = check(tmp_path, configuration("progress"))
    record_property(
        "figure",
        f"model, progress: {verdict.states} states, depth {verdict.depth}, in {verdict.took}",
    )
    assert verdict.broken is None


@pytest.mark.long
@pytest.mark.parametrize("name", ["large", "large-replicas"])
def test_the_protocol_keeps_every_invariant_at_large(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same with more of everything at once: hours.

    Interrupted, it goes on where it was, if STAGEGATE_MODEL_STATES names a folder that stays.
    """
    folder = Path(os.environ.get("STAGEGATE_MODEL_STATES", tmp_path)) / name
    folder.mkdir(parents=True, exist_ok=True)
    verdict = check_for_long(folder, configuration(name))
    record_property(
        "figure",
        f"model, {name}: {verdict.states} states, depth {verdict.depth}, in {verdict.took}",
    )
    assert verdict.broken is None


@dataclass(frozen=True, slots=True)
class Seed:
    """A protocol with one error: what catches it, and the smallest world in which it shows."""

    caught_by: str
    relation: str = "again"
    steps: int = 1
    replicas: int = 1
    crashes: int = 0
    losses: int = 0
    faults: int = 0
    claims: int = 0
    halts: int = 0
    failures: int = 0
    departures: int = 0
    limit: int = 3

    def constants(self, error: str) -> dict[str, str]:
        """Return the constants of a configuration."""
        return {
            "Procs": "{a}" if self.replicas == 1 else "{a, b}",
            "Relations": f'{{"{self.relation}"}}',
            "Steps": str(self.steps),
            "Limits": f"{{{self.limit}}}",
            "MaxCrashes": str(self.crashes),
            "MaxLosses": str(self.losses),
            "MaxFaults": str(self.faults),
            "MaxClaims": str(self.claims),
            "MaxHalts": str(self.halts),
            "MaxFailures": str(self.failures),
            "MaxDepartures": str(self.departures),
            "Bug": f'"{error}"',
        }


SEEDS = {
    "answer_before_commit": Seed("I8"),
    "effect_before_commit": Seed("I2"),
    "gates_asked_before_the_turn": Seed("I3"),
    "revocation_asked_at_admission_only": Seed("I3", steps=2),
    "resumed_after_crash": Seed("I1", crashes=1),
    "started_again_after_crash": Seed("I4", crashes=1),
    "recovery_after_serving": Seed("I5", relation="other request", crashes=1),
    "recovery_closes_nothing": Seed("deadlock", crashes=1),
    "request_consumed_at_the_end": Seed("I1"),
    "replay_key_without_caller": Seed("I8", relation="other caller"),
    "replay_for_any_token": Seed("I8", relation="other token"),
    "takeover_without_epoch": Seed("I5", replicas=2, claims=1),
    "late_answer_changes_the_outcome": Seed("I5", failures=1),
    "late_answer_completes_the_step": Seed("I6", failures=1),
    "terminal_event_twice": Seed("I5", departures=1),
    "next_step_started_ahead": Seed("I9", steps=2),
    "charge_refunded": Seed(
        "ChargesWithinGrant", relation="other request", steps=2, failures=1, limit=2
    ),
    "halt_asked_at_admission_only": Seed("NoStartWhileHalted", steps=2, halts=1),
    "stale_head": Seed("I7", relation="other request", replicas=2),
    "synchronous_normal": Seed("I2", losses=1),
    "failed_sync_retried": Seed("I2", faults=1),
    "unsynced_tail_served": Seed("I8", crashes=1, losses=1),
}


@pytest.mark.ci
def test_every_seeded_error_is_caught_by_its_invariant(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The control: each wrong protocol breaks the invariant that is there for it."""
    found = {}
    processor_s = 0.0
    for error, seed in SEEDS.items():
        folder = tmp_path / error
        folder.mkdir()
        verdict = check(folder, constants(configuration("seeded"), **seed.constants(error)))
        found[error] = verdict.broken
        processor_s += verdict.processor_s
    expected = {error: seed.caught_by for error, seed in SEEDS.items()}
    caught = sum(found[error] == by for error, by in expected.items())
    record_property(
        "figure",
        f"model, seeded errors caught: {caught} of {len(SEEDS)}, "
        f"in {processor_s:.1f} s of processor time",
    )
    assert found == expected


@pytest.mark.ci
def test_without_its_error_the_seeded_world_holds(tmp_path: Path) -> None:
    """The control of the control: the smallest world of each kind is right without the error."""
    for error in ("unsynced_tail_served", "takeover_without_epoch"):
        folder = tmp_path / error
        folder.mkdir()
        world = SEEDS[error].constants("none")
        assert check(folder, constants(configuration("seeded"), **world)).broken is None


@pytest.mark.ci
def test_a_plan_that_nobody_closes_is_no_progress(tmp_path: Path) -> None:
    """The control: a recovery that closes nothing leaves a plan running for ever."""
    world = SEEDS["recovery_closes_nothing"].constants("recovery_closes_nothing")
    configured = constants(configuration("progress"), **world)
    assert check(tmp_path, configured).broken == "progress"


@pytest.mark.ci
def test_the_module_and_its_page_know_the_same_errors() -> None:
    """An error that nobody looks for would prove nothing, and the page says what catches each."""
    module = (MODEL / "StepProtocol.tla").read_text()
    known = {
        word
        for line in module.splitlines()
        if "Bug" in line
        for word in re.findall(r'"(\w+_\w+)"', line)
    }
    page = (MODEL / "README.md").read_text().partition("## Seeded errors")[2]
    written = dict(re.findall(r"^\| `(\w+)` \| `?(\w+)", page, re.MULTILINE))

    assert known == SEEDS.keys()
    assert written == {error: seed.caught_by for error, seed in SEEDS.items()}
