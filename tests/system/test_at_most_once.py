"""At most once: however often a request is submitted, it is executed once and answers the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from servicekit.store.ledger import verify_log
from stage3_service import bootstrap
from stage3_service.settings import STORE_FILE
from stage3_service.store.schema import SCHEMA
from stage3_service.store.snapshot import SqliteSnapshot
from stage4_service.execution_plan import Stage4ExecutionPlan
from stage4_service.plan_digest import plan_digest
from tests.harness.duplicates import OTHER_STEPS, SCOPE, STEPS, Load, Told, submit_all
from tests.harness.pair import pair_of_processes, plan_document, running_pair
from tests.harness.slices import slice_of_long_run
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.harness.stage3 import Stage3UnderTest

WHILE_DISTURBED = frozenset(
    {
        *("REQUEST_IN_PROGRESS", "STEP_IN_DOUBT", "STAGE3_UNREACHABLE", "OUTCOME_UNKNOWN"),
        *("OUTCOME_PENDING", "OUTCOME_UNRECORDED", "CLIENT_CANCELLED", "DEADLINE"),
        *("DEADLINE_EXCEEDED", "no answer (DEADLINE_EXCEEDED)", "no answer (UNAVAILABLE)"),
    }
)
"""What a client may be told instead of an outcome while services are killed and calls given up."""


def tokens(stage3: Stage3UnderTest) -> tuple[str, str]:
    """Return the credentials of two tokens that allow the same."""
    first, second = (stage3.issue(scope=SCOPE, lifetime_seconds=1800) for _ in range(2))
    return first.token_hash, second.token_hash


def effects_of(stage3: Stage3UnderTest, effects: Sequence[str]) -> Mapping[str, list[str]]:
    """Return what happened in the world for each request, as Stage-3's log ascribes it."""
    request_of = {
        event["plan_id"]: event["additional_data"]["request_id"]
        for event in stage3.events(event_type="TOKEN_VALIDATION")
        if event["status"] == "success"
    }
    found: dict[str, list[str]] = defaultdict(list)
    for key in effects:
        found[request_of[key.rpartition("/")[0]]].append(key)
    return found


def report(load: Load, told: Told, effects: int) -> str:
    """Return the figure of a load."""
    answers = ", ".join(f"{count} {name}" for name, count in told.answers.most_common())
    return (
        f"{load.submissions} submissions of {load.requests} requests by {load.clients} clients: "
        f"{effects} effects; {answers}"
    )


def run_calm(directory: Path, load: Load) -> str:
    """Submit everything to two undisturbed services; each request has one effect and one answer."""
    with pair_of_processes(directory) as pair:
        told = submit_all(load, pair.stage4.service.addresses.clients, *tokens(pair.stage3))
        effects = effects_of(pair.stage3, pair.effects())

        assert {each: len(keys) for each, keys in effects.items()} == dict.fromkeys(
            load.request_ids, 1
        )
        assert {each: len(outcomes) for each, outcomes in told.outcomes.items()} == dict.fromkeys(
            load.request_ids, 1
        )
        assert set(told.answers) <= {
            *("completed", "REQUEST_IN_PROGRESS", "TOKEN_NOT_ACCEPTED", "REQUEST_ID_REUSED")
        }
        verify_invariants(pair.stage3.events(), pair.effects())
        return report(load, told, len(pair.effects()))


def run_disturbed(directory: Path, load: Load, kills: int) -> str:
    """Do so while either service is killed in turn, and while some clients give up."""
    with pair_of_processes(directory) as pair:
        credential, other = tokens(pair.stage3)

        def kill(told: Told) -> None:
            for number in range(kills):
                if not told.wait_for((number + 1) * load.submissions // (kills + 1), 600):
                    return
                service = pair.stage4_process if number % 3 == 2 else pair.stage3_process
                service.kill()
                service.start()

        address = pair.stage4.service.addresses.clients
        told = submit_all(load, address, credential, other, kill)
        in_the_end = {
            each: pair.stage4.execute(plan_document(credential, *STEPS), request_id=each)
            for each in load.request_ids
        }
        effects = effects_of(pair.stage3, pair.effects())

        verify_invariants(pair.stage3.events(), pair.effects())
        assert verify_log(directory / "stage3" / STORE_FILE).problem is None
        # One execution for a request, with one effect, or with none where a crash came before it.
        assert max(map(len, effects.values())) == 1
        assert {each for each, outcomes in told.outcomes.items() if len(outcomes) > 1} == set()
        for request_id, last in in_the_end.items():
            earlier = told.outcomes.get(request_id)
            if last.response is not None:
                assert len(effects[request_id]) == 1
                assert earlier in (None, {last.response.result_json})
            else:
                assert earlier in (None, {(last.reason, last.error and last.error.message)})
        assert (
            set(told.answers)
            - {"completed"}
            - {*("TOKEN_NOT_ACCEPTED", "REQUEST_ID_REUSED", "PLAN_HALTED")}
            <= WHILE_DISTURBED
        )
        ends = Counter(each.reason or "completed" for each in in_the_end.values())
        return f"{report(load, told, len(pair.effects()))}; {kills} kills; ends {dict(ends)}"


@pytest.mark.slow
def test_a_sample_of_duplicates_has_one_effect_and_one_answer_each(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Four hundred submissions of eight requests, impostors among them."""
    load = Load(submissions=400, requests=8, clients=12, impostors=0.1)

    record_property("figure", run_calm(tmp_path, load))


@pytest.mark.ci
@pytest.mark.timeout(1800)
def test_ten_thousand_duplicates(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Ten thousand submissions of forty requests, through both services as processes."""
    load = Load(submissions=10_000, requests=40, clients=24, impostors=0.05)

    record_property("figure", run_calm(tmp_path, load))


@pytest.mark.ci
@pytest.mark.timeout(1800)
def test_duplicates_while_services_are_killed_and_clients_give_up(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Three thousand of them over nine kills, one call in ten given up after 50 ms."""
    load = Load(submissions=3_000, requests=150, clients=16, impatient=0.1, impostors=0.05)

    record_property("figure", run_disturbed(tmp_path, load, kills=9))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_a_million_duplicates(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A hundred loads of ten thousand, every second one disturbed."""
    part = slice_of_long_run()
    submissions = 0
    for seed in part.cases(100):
        directory = tmp_path / str(seed)
        directory.mkdir()
        load = Load(10_000, 200, 24, impatient=0.05 * (seed % 2), impostors=0.05, seed=seed)
        told = run_disturbed(directory, load, 9) if seed % 2 else run_calm(directory, load)
        print(told, flush=True)  # noqa: T201 - the figures of the long run, as they come
        submissions += load.submissions
    figure = f"{submissions:,} duplicate submissions: none executed twice"
    record_property("figure", part.label(figure))


def forget_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what is under test: the look-up of a request, and the index that stands behind."""
    monkeypatch.setattr(SqliteSnapshot, "request", lambda _self, _scope: None)
    statements = tuple(
        statement.replace("CREATE UNIQUE INDEX plans_by_request", "CREATE INDEX plans_by_request")
        for statement in SCHEMA.statements
    )
    assert statements != SCHEMA.statements
    monkeypatch.setattr(bootstrap, "SCHEMA", replace(SCHEMA, statements=statements))


@pytest.mark.slow
def test_control_without_the_look_up_the_same_load_executes_more_than_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The load finds a service that forgets which requests it has executed."""
    forget_requests(monkeypatch)
    load = Load(submissions=100, requests=8, clients=12)
    with running_pair(tmp_path) as pair:
        told = submit_all(load, pair.stage4.service.addresses.clients, *tokens(pair.stage3))
        effects = len(pair.trial.effects)

    record_property("figure", f"control, no look-up of requests: {report(load, told, effects)}")
    assert effects > load.requests


@pytest.mark.slow
def test_a_bound_token_executes_once_whatever_the_request_ids(tmp_path: Path) -> None:
    """Bound to the plan, with as many invocations as steps: fresh identifiers find nothing left."""
    with running_pair(tmp_path) as pair:
        digest = plan_digest(Stage4ExecutionPlan(**plan_document("x", *STEPS)))
        credential = pair.token(
            scope=SCOPE, plan_digest=digest, limits={"max_invocations": len(STEPS)}
        )

        def submit(number: int) -> str:
            document = plan_document(credential, *STEPS)
            return pair.stage4.execute(document, request_id=f"fresh-{number}").reason

        with ThreadPoolExecutor(12) as clients:
            reasons = Counter(clients.map(submit, range(60)))
        other = pair.stage4.execute(plan_document(credential, *OTHER_STEPS)).reason

        assert reasons == {"": 1, "LIMIT_EXCEEDED": 59}
        assert len(pair.trial.effects) == 1
        assert other == "PLAN_NOT_BOUND"
