"""The executor itself, driven from one thread: what happens, happens while a step runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stage3_service.audit.journal import JournalUnavailable
from stage3_service.domains.port import Output
from stage3_service.tokens.issue import IssueRequest
from tests.simulation.gates_model import GARBAGE_BYTES, METHOD_MAX_BYTES, Plan, PlanStep, Submission
from tests.simulation.stage3_world import ClientCall, Stage3World, submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage3_service.audit.journal import JournalStore, Snapshot, Writes

CALLER = "spiffe://stagegate.test/client/cli"
METHODS = ("effect", "fail", "garbage", "unreachable", "silent")
EFFECTS = ("effect",) * 3
ANSWER_BYTES = len(b'{"effects":1}')


class FailingStore:
    """A store that is unavailable from the moment that a test says so."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self.failed = False

    def commit(self, work: Callable[[Snapshot], Writes[Any]], *, urgent: bool) -> Writes[Any]:
        """Commit, or say that nothing can be committed."""
        if self.failed:
            raise JournalUnavailable("the disk is gone")
        return self._store.commit(work, urgent=urgent)


@pytest.fixture
def world() -> Iterator[Stage3World]:
    """Return an executor over a store of its own."""
    made = Stage3World()
    yield made
    made.close()


def issue(world: Stage3World, **changes: Any) -> str:
    """Issue a token for the trial domain and return its credential."""
    usual = {
        "user_id": "ada",
        "capability": "tests",
        "domain_scope": ("trial",),
        "method_scope": (("trial", METHODS),),
        "allowed_trigger_types": ("manual",),
        "lifetime_s": 600,
        "client_identities": (CALLER,),
    }
    return world.issue(IssueRequest(**{**usual, **changes}))[0]


def submission(
    credential: str, name: str, *methods: str, during: tuple[Any, ...] = ()
) -> Submission:
    """Return a plan of these methods; `during` says what happens while each step runs."""
    plan = Plan("ada", "manual", tuple(PlanStep("trial", method) for method in methods))
    return Submission(plan, credential, CALLER, f"request-{name}", f"plan-{name}", during=during)


def charged_bytes(world: Stage3World) -> int:
    """Return the response bytes that the store has charged its one token."""
    ((count,),) = world.ledger.read(lambda reader: reader.rows("SELECT response_bytes FROM tokens"))
    assert isinstance(count, int)
    return count


def test_a_token_that_expires_between_two_steps_is_seen_to_expire_once(world: Stage3World) -> None:
    """TOKEN_EXPIRED stands before the denial that first saw it, and before no later one."""
    credential = issue(world, lifetime_s=60)
    world.happen = world.clock.advance

    assert (
        world.submit(submission(credential, "a", *EFFECTS[:2], during=(60,))).reason
        == "TOKEN_EXPIRED"
    )
    assert world.submit(submission(credential, "b", "effect")).reason == "TOKEN_EXPIRED"

    types = [event["event_type"] for _, event in world.events_from(0)]
    assert types[-6:] == [
        *("EXECUTION_COMPLETED", "TOKEN_EXPIRED", "TOKEN_VALIDATION", "EXECUTION_DENIED"),
        *("TOKEN_VALIDATION", "EXECUTION_DENIED"),
    ]
    assert world.contradiction() is None


def test_a_plan_of_three_steps_counts_as_one_of_two_in_the_window(world: Stage3World) -> None:
    """The second plan runs as well, and a third does not."""
    credential = issue(world, max_frequency="2 per 60 seconds")

    kinds = [world.submit(submission(credential, name, *EFFECTS)).kind for name in "abc"]

    assert kinds == ["completed", "completed", "refused"]


def test_starts_that_no_limit_counts_are_not_kept(world: Stage3World) -> None:
    """Without `max_frequency` a plan leaves nothing that a window would be counted from."""
    world.submit(submission(issue(world), "a", *EFFECTS))

    rows = world.ledger.read(lambda reader: reader.rows("SELECT count(*) FROM plan_starts"))
    assert list(rows) == [(0,)]


@pytest.mark.parametrize(
    ("method", "bytes_charged"),
    [
        ("effect", 2 * ANSWER_BYTES),
        ("fail", ANSWER_BYTES),
        ("unreachable", ANSWER_BYTES),
        ("garbage", ANSWER_BYTES + GARBAGE_BYTES),
        ("silent", ANSWER_BYTES + METHOD_MAX_BYTES),
    ],
)
def test_a_step_costs_the_bytes_that_came_however_it_ended(
    world: Stage3World, method: str, bytes_charged: int
) -> None:
    """A reservation stays where nobody knows what was answered, and nowhere else."""
    world.submit(submission(issue(world), "a", "effect", method))

    assert charged_bytes(world) == bytes_charged


@pytest.mark.parametrize(
    ("during", "reason"),
    [("cancel", "CLIENT_CANCELLED"), ("timeout", "DEADLINE"), (("halt", True), "PLAN_HALTED")],
    ids=["cancelled", "too late", "halted"],
)
def test_a_plan_that_is_stopped_between_two_steps_has_paid_for_the_first(
    world: Stage3World, during: Any, reason: str
) -> None:
    """The reservation of the step that ended is settled in the commit that stops the next one."""
    world.happen = lambda _what: world.halt(halted=True)

    told = world.submit(submission(issue(world), "a", "effect", "effect", during=(during,)))

    assert (told.kind, told.reason, told.effects) == ("aborted", reason, "some")
    assert charged_bytes(world) == ANSWER_BYTES


@pytest.mark.parametrize("halted", [True, False])
def test_of_several_reasons_to_stop_the_service_comes_first_and_the_client_second(
    world: Stage3World, *, halted: bool
) -> None:
    """A service that ends cancels calls itself; a client that left had no deadline to miss."""
    call = ClientCall(time_left=True)
    plan = submission(issue(world), "a", "effect", "effect")

    def all_at_once() -> None:
        call.gone, call.left_s = True, 0.0
        if halted:
            world.halt(halted=True)

    world.eventful.during["plan-a/0"] = all_at_once
    answer = world.executor.execute(submitted(plan), call)

    assert answer.outcome.reason == ("PLAN_HALTED" if halted else "CLIENT_CANCELLED")


def test_a_plan_with_a_moment_left_goes_on(world: Stage3World) -> None:
    """Time is over when none is left, and not when little is."""
    call = ClientCall(time_left=True)
    call.left_s = 0.5

    plan = submission(issue(world), "a", "effect", "effect")

    assert world.executor.execute(submitted(plan), call).outcome.kind.value == "completed"


def test_the_log_says_that_a_step_without_an_answer_is_in_doubt(world: Stage3World) -> None:
    """An abort after a start that says no more would mean that nothing happened."""
    world.submit(submission(issue(world), "a", "silent"))

    (_, last) = world.events_from(0)[-1]
    assert (last["event_type"], last["reason"]) == ("OPERATION_ABORTED", "STEP_IN_DOUBT")
    assert last["additional_data"] == {"in_doubt": True, "terminal": True}


def test_an_answer_that_overtakes_the_record_of_its_giving_up_is_recorded_after_it(
    world: Stage3World,
) -> None:
    """LATE_OUTCOME follows the end of the plan, and nobody has to ask for it again."""
    world.happen = lambda _what: world.late.deliver("plan-a/0", Output(b"{}"))

    told = world.submit(submission(issue(world), "a", "silent", during=("answered",)))

    types = [event["event_type"] for _, event in world.events_from(0)]
    assert told.kind == "in_doubt"
    assert types[-2:] == ["OPERATION_ABORTED", "LATE_OUTCOME"]


def test_a_failed_step_ends_its_plan_whatever_it_would_have_filled(world: Stage3World) -> None:
    """The next step waits for an output that does not exist, and nobody looks for it."""
    methods = (("trial", METHODS), ("strict", ("echo",)))
    credential = issue(world, domain_scope=("trial", "strict"), method_scope=methods)
    steps = (PlanStep("trial", "fail"), PlanStep("strict", "echo"))
    plan = Plan("ada", "manual", steps, bound_path="effects")

    told = world.submit(Submission(plan, credential, CALLER, "request-a", "plan-a"))

    assert (told.kind, told.reason, told.step) == ("failed", "DOMAIN_FAILED", 0)
    assert world.sealed == []


@pytest.mark.parametrize("started", [False, True])
def test_a_journal_that_fails_before_an_effect_is_told_from_one_that_fails_after(
    *, started: bool
) -> None:
    """AUDIT_UNAVAILABLE says that nothing happened, OUTCOME_UNRECORDED that something may have."""
    made: list[FailingStore] = []

    def wrap(store: JournalStore) -> JournalStore:
        made.append(FailingStore(store))
        return made[0]

    world = Stage3World(wrap)
    try:
        plan = submission(issue(world), "a", "effect", during=("the disk fails",))
        made[0].failed = not started
        world.happen = lambda _what: setattr(made[0], "failed", True)

        told = world.submit(plan)

        assert told.reason == ("OUTCOME_UNRECORDED" if started else "AUDIT_UNAVAILABLE")
        assert len(world.trial.effects) == started
        # A journal seals itself.
        assert world.sealed == []
    finally:
        world.close()


def test_a_defect_after_an_effect_seals_the_service_and_starts_nothing_more(
    world: Stage3World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was raised is handed to who ends the process, and the next plan is refused."""
    credential = issue(world)

    def no_entropy(_size: int) -> bytes:
        raise OSError("the machine has no entropy")

    world.happen = lambda _what: monkeypatch.setattr(world.executor, "_entropy", no_entropy)

    plan = submission(credential, "a", "effect", "effect", during=("it breaks",))
    told = world.submit(plan)
    again = world.submit(submission(credential, "b", "effect"))

    assert (told.reason, again.reason) == ("OUTCOME_UNRECORDED", "SERVICE_HALTED")
    assert [type(error) for error in world.sealed] == [OSError]
    assert world.trial.effects == ["plan-a/0"]
