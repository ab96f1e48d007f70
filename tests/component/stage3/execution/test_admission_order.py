"""The questions of an admission, in order: of two that would refuse, the first one answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from stage3_service.tokens.issue import IssueRequest
from tests.simulation.gates_model import Plan, PlanStep, Submission
from tests.simulation.stage3_world import Stage3World

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLER = "spiffe://stagegate.test/client/cli"
PLAN = Plan("ada", "manual", (PlanStep("trial", "effect"),))
OTHER_PLAN = Plan("ada", "manual", (PlanStep("trial", "effect"),) * 2)
FORBIDDEN_PLAN = Plan("ada", "manual", (PlanStep("trial", "echo"),))
RETENTION_S = 172_800

# What is the matter, and what the client is told if nothing before it is. In the order asked.
ANSWERS = {
    "the request was executed": "completed",
    "the disk is low": "SERVICE_HALTED",
    "the plan_id is known": "PLAN_INVALID",
    "the outcome is kept no more": "REQUEST_ID_EXPIRED",
    "the request was another token's": "TOKEN_NOT_ACCEPTED",
    "the request was another plan's": "REQUEST_ID_REUSED",
    "the service is halted": "SERVICE_HALTED",
    "the token is revoked": "TOKEN_NOT_ACCEPTED",
    "a step is out of scope": "METHOD_NOT_IN_SCOPE",
}
# What cannot be the matter at once: who is told an outcome holds its token and has its plan.
EXCLUDED = {
    ("the request was executed", "the outcome is kept no more"),
    ("the request was executed", "the request was another token's"),
    ("the request was executed", "the request was another plan's"),
    ("the request was executed", "a step is out of scope"),
}
PAIRS = [pair for pair in combinations(ANSWERS, 2) if pair not in EXCLUDED]


@pytest.fixture
def world() -> Iterator[Stage3World]:
    """Return an executor over a store of its own."""
    made = Stage3World()
    yield made
    made.close()


def issue(world: Stage3World) -> tuple[str, str]:
    """Issue a token for one method; return its credential and its reference."""
    return world.issue(
        IssueRequest(
            user_id="ada",
            capability="tests",
            domain_scope=("trial",),
            method_scope=(("trial", ("effect",)),),
            allowed_trigger_types=("manual",),
            lifetime_s=600,
            client_identities=(CALLER,),
        )
    )


def arranged(world: Stage3World, matters: tuple[str, ...]) -> Submission:
    """Let all of it be the matter, and return the submission that meets it."""
    credential, token_id = issue(world)
    another, _ = issue(world)
    first = Submission(PLAN, credential, CALLER, "request-1", "plan-1")
    assert world.submit(first).kind == "completed"
    then = replace(first, request_id="request-2", plan_id="plan-2")
    for matter in matters:
        if matter == "the disk is low":
            world.ledger._writer.watch_disk(lambda: "it is full")
        elif matter == "the plan_id is known":
            then = replace(then, plan_id="plan-1")
        elif matter == "the service is halted":
            world.halt(halted=True)
        elif matter == "the token is revoked":
            world.revoke(token_id)
        elif matter == "a step is out of scope":
            then = replace(then, plan=FORBIDDEN_PLAN)
        else:
            then = replace(then, request_id="request-1")
            if matter == "the request was another plan's":
                then = replace(then, plan=OTHER_PLAN)
            elif matter == "the request was another token's":
                then = replace(then, credential=another)
            elif matter == "the outcome is kept no more":
                world.clock.advance(RETENTION_S + 1)
    return then


@pytest.mark.parametrize("matter", ANSWERS)
def test_each_question_is_asked(world: Stage3World, matter: str) -> None:
    """Alone, each has its answer."""
    told = world.submit(arranged(world, (matter,)))

    assert (told.reason or told.kind) == ANSWERS[matter]
    assert told.replay == (matter == "the request was executed")


@pytest.mark.parametrize("pair", PAIRS, ids=", and ".join)
def test_the_first_of_two_answers(world: Stage3World, pair: tuple[str, str]) -> None:
    """Whatever is the matter besides."""
    told = world.submit(arranged(world, pair))

    assert (told.reason or told.kind) == ANSWERS[pair[0]]


@pytest.mark.parametrize("matter", ["the disk is low", "the service is halted"])
def test_a_service_that_starts_nothing_records_no_refusal_either(
    world: Stage3World, matter: str
) -> None:
    """Whoever waits until it starts again asks as often as it likes."""
    then = arranged(world, (matter,))
    before = world.head().size

    assert world.submit(then).reason == "SERVICE_HALTED"
    assert world.head().size == before


def test_a_request_that_still_runs_is_in_progress_whatever_else(world: Stage3World) -> None:
    """It has no outcome yet; asking for it is recorded nowhere and costs nothing."""
    credential, _ = issue(world)
    plan = Submission(PLAN, credential, CALLER, "request-1", "plan-1", during=("asked again",))
    told = []
    sizes = []

    def ask_again(_what: object) -> None:
        world.halt(halted=True)
        sizes.append(world.head().size)
        told.append(world.submit(replace(plan, plan_id="plan-2", during=())))
        sizes.append(world.head().size)

    world.happen = ask_again
    world.submit(plan)

    assert [each.reason for each in told] == ["REQUEST_IN_PROGRESS"]
    assert sizes[0] == sizes[1]


def test_a_malformed_submission_leaves_nothing_on_a_full_disk(world: Stage3World) -> None:
    """It is refused for what it is, and no room is taken from steps under way."""
    then = replace(arranged(world, ("the disk is low",)), caller="nobody")
    before = world.head().size

    assert world.submit(then).reason == "PLAN_INVALID"
    assert world.head().size == before


@pytest.mark.parametrize(
    "matter",
    ["the request was another plan's", "the token is revoked", "the outcome is kept no more"],
)
def test_the_plan_id_of_a_refused_plan_is_spent(world: Stage3World, matter: str) -> None:
    """The log has its terminal event: no second plan may be recorded under that name."""
    refused = arranged(world, (matter,))
    assert world.submit(refused).reason == ANSWERS[matter]
    fresh = replace(refused, credential=issue(world)[0], request_id="request-3", plan=PLAN)

    assert world.submit(fresh).reason == "PLAN_INVALID"
    assert world.submit(replace(fresh, plan_id="plan-3")).kind == "completed"
