"""A plan reaches a domain in a container of its own, and what becomes of it when that is hurt."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.compose.marks import COMPOSED
from tests.compose.stack import Stack, wait_until

pytestmark = COMPOSED

HEALED_S = 10.0
DOMAIN = "domain-example"


def transfer(cents: int) -> Mapping[str, Any]:
    """Return a step that moves so many cents."""
    parameters = {"debit": "till", "credit": "safe", "cents": cents}
    return {"domain": "ledger", "method": "transfer", "parameters": parameters}


def balance(pair: Stack, request_id: str) -> int:
    """Ask what the safe holds."""
    step = {"domain": "ledger", "method": "balance", "parameters": {"account": "safe"}}
    answer = pair.run_plan([step], request_id)
    assert answer.get("status") == "completed", answer
    cents: int = answer["results"][0]["output"]["cents"]
    return cents


def test_a_plan_has_its_effect_there(pair: Stack) -> None:
    """Over mTLS, on a network that neither clients nor Stage-4 are on."""
    before = balance(pair, "domain-before")

    answer = pair.run_plan([transfer(25)], "domain-transfer")

    assert answer["status"] == "completed", answer
    assert balance(pair, "domain-after") == before + 25


def test_while_it_is_away_nothing_was_sent(pair: Stack) -> None:
    """A domain that is not there fails the step, and the same plan under a new id runs later."""
    before = balance(pair, "away-before")
    pair.compose("stop", DOMAIN)
    try:
        told = pair.run_plan([transfer(5)], "away")["error"]
    finally:
        pair.compose("start", DOMAIN)
        wait_until(lambda: pair.health(DOMAIN) == "healthy", "the domain is healthy again")

    assert told["reason"] == "DOMAIN_UNREACHABLE"
    assert balance(pair, "away-after") == before
    assert pair.run_plan([transfer(5)], "away-again")["status"] == "completed"
    assert balance(pair, "away-end") == before + 5


def test_killed_it_is_back_by_itself(
    pair: Stack, record_property: Callable[[str, object], None]
) -> None:
    """After kill -9, what it had answered is still there."""
    before = balance(pair, "killed-before")
    pid = pair.inspect(DOMAIN)["State"]["Pid"]

    pair.kill(DOMAIN)
    took_s = wait_until(
        lambda: (
            pair.inspect(DOMAIN)["State"]["Pid"] not in {0, pid}
            and pair.health(DOMAIN) == "healthy"
        ),
        "the domain is healthy again",
    )

    record_property("figure", f"domain healthy again after kill -9: {took_s:.1f} s")
    assert took_s <= HEALED_S
    assert balance(pair, "killed-after") == before


def test_frozen_it_leaves_the_step_in_doubt(pair: Stack) -> None:
    """No answer within the method's time is no outcome; once thawed, the domain serves again."""
    with pair.paused(DOMAIN):
        told = pair.run_plan([transfer(1)], "frozen")["error"]

    assert told["reason"] == "STEP_IN_DOUBT"
    wait_until(lambda: pair.health(DOMAIN) == "healthy", "the domain is healthy again")
    assert balance(pair, "frozen-after") >= 0
    assert pair.run_plan([transfer(1)], "frozen")["error"]["reason"] == "STEP_IN_DOUBT"


def test_the_link_to_it_is_cut_in_the_middle_of_a_plan(pair: Stack) -> None:
    """The step that needs it says what is known; healed, the next plan runs."""
    before = balance(pair, "cut-before")
    slow = {"domain": "trial", "method": "slow", "parameters": {"seconds": 2}}
    submitted = pair.submit([slow, transfer(7)], "cut-domain")
    time.sleep(1)

    with pair.cut_off(DOMAIN, "domains"):
        told = submitted.outcome()["error"]

    assert told["reason"] in {"DOMAIN_UNREACHABLE", "STEP_IN_DOUBT"}
    wait_until(
        lambda: (
            pair.run_plan([transfer(1)], f"cut-{time.monotonic_ns()}").get("status") == "completed"
        ),
        "the link has healed",
        30,
    )
    if told["reason"] == "DOMAIN_UNREACHABLE":
        assert balance(pair, "cut-after") == before + 1
