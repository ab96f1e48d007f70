"""How long an outcome is told, and what is left of its request for good."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from stagegate.error.v1.plan_outcome_pb2 import EFFECTS_UNKNOWN

from servicekit.settings import SettingsRefused, load_settings
from servicekit.store.ledger import read_store, verify_log
from stage3_service.settings import STORE_FILE, Stage3Settings
from stage3_service.store.schema import SCHEMA
from stage3_service.store.state_check import state_problem
from tests.harness.pair import plan_document, running_pair
from tests.harness.pki import uri
from tests.harness.stage3 import Stage3UnderTest, running_stage3, step
from tests.harness.stage4 import running_stage4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial

RETENTION_S = 172_800
SCOPE = {"trial": ("effect", "echo", "hang")}
EFFECT = step("trial", "effect")


def counted(directory: Path, table: str) -> int:
    """Return how many rows a table of the store has, also while the service runs."""
    rows: list[tuple[Any, ...]] = read_store(
        directory / "stage3" / STORE_FILE,
        lambda reader: reader.rows(f"SELECT count(*) FROM {table}"),  # noqa: S608 - a test's own name
    )
    return int(rows[0][0])


def executed(stage3: Stage3UnderTest, **changes: Any) -> Any:
    """Execute one effect under a token of its own; return its request."""
    token = stage3.issue(scope=SCOPE)
    request = stage3.request(token.token_hash, [EFFECT], **changes)
    assert stage3.send(request).kind == "completed"
    return request


def again(request: Any, plan_id: str) -> Any:
    """Return the same submission as a Stage-4 sends it again: with a new plan_id."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.plan_id = plan_id
    return copy


def test_an_outcome_is_told_until_its_time_is_over_and_then_never_again(
    stage3: Stage3UnderTest, trial: Trial, clock: ManualClock, tmp_path: Path
) -> None:
    """To the last microsecond the stored bytes; one later REQUEST_ID_EXPIRED, and no second run."""
    request = executed(stage3)
    clock.advance(RETENTION_S)
    told = stage3.send(again(request, "at-the-end"))
    assert (told.kind, told.outputs) == ("completed", [{"effects": 1}])
    clock.advance(1e-6)
    size = len(stage3.events())

    reasons = [stage3.send(again(request, f"later-{n}")).reason for n in range(3)]

    assert reasons == ["REQUEST_ID_EXPIRED"] * 3
    assert trial.domain.effects == [f"{request.plan_id}/0"]
    left = [
        (event["event_type"], event["reason"], event["plan_id"], event["token_id"])
        for event in stage3.events()[size:]
    ]
    assert left == [
        ("EXECUTION_DENIED", "REQUEST_ID_EXPIRED", f"later-{n}", None) for n in range(3)
    ]
    assert (counted(tmp_path, "plans"), counted(tmp_path, "spent_requests")) == (0, 1)


def test_control_without_its_tombstone_the_request_would_run_a_second_time(
    tmp_path: Path, trial: Trial, clock: ManualClock
) -> None:
    """What keeps an erased request from running again is its tombstone and nothing else."""
    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra]) as stage3:
        request = executed(stage3)
        clock.advance(RETENTION_S + 1)
        assert stage3.send(again(request, "second")).reason == "REQUEST_ID_EXPIRED"
    connection = apsw.Connection(str(tmp_path / "stage3" / STORE_FILE))
    connection.execute("DELETE FROM spent_requests")
    connection.close()

    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra], create=False) as stage3:
        request.token_hash = stage3.issue(scope=SCOPE).token_hash
        assert stage3.send(again(request, "third")).kind == "completed"
    assert trial.domain.effects == [f"{request.plan_id}/0", "third/0"]


def test_later_plans_erase_what_is_overdue_and_leave_nothing_of_it(
    tmp_path: Path, trial: Trial, clock: ManualClock
) -> None:
    """Two for each plan, oldest first; rows, sealed bytes and names go; log and salts stay."""
    store = tmp_path / "stage3" / STORE_FILE
    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra]) as stage3:
        for number in range(5):
            executed(stage3, request_id=f"erased-{number}")
        sealed = read_store(store, lambda reader: reader.rows("SELECT sealed FROM plans"))
        salts = counted(tmp_path, "salts")
        clock.advance(RETENTION_S + 1)
        left = []
        for number in range(4):
            executed(stage3, request_id=f"kept-{number}")
            left.append((counted(tmp_path, "plans"), counted(tmp_path, "spent_requests")))
        assert counted(tmp_path, "salts") == salts + 4 * 3
    raw = store.read_bytes()

    assert left == [(4, 2), (3, 4), (3, 5), (4, 5)]
    assert len(sealed) == 5
    assert not any(row[0] in raw for row in sealed)  # type: ignore[operator]  # sealed is bytes
    assert verify_log(store).problem is None
    assert read_store(store, state_problem) is None


def test_what_was_erased_stays_spent_over_a_restart(
    tmp_path: Path, trial: Trial, clock: ManualClock
) -> None:
    """With any token, and its plan_id too. The same identifier of another caller is its own."""
    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra]) as stage3:
        request = executed(stage3)
        clock.advance(RETENTION_S + 1)
        executed(stage3)
    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra], create=False) as stage3:
        clock.advance(RETENTION_S)
        assert stage3.send(again(request, "later")).reason == "REQUEST_ID_EXPIRED"
        fresh = again(request, "fresh")
        fresh.token_hash = stage3.issue(scope=SCOPE).token_hash
        assert stage3.send(fresh).reason == "REQUEST_ID_EXPIRED"
        fresh.request_id, fresh.plan_id = "new", request.plan_id
        assert stage3.send(fresh).reason == "PLAN_INVALID"
        other = again(request, "other")
        other.caller = uri("other")
        other.token_hash = stage3.issue(scope=SCOPE, client_identities=[uri("other")]).token_hash
        assert stage3.send(other).kind == "completed"


def test_a_plan_that_runs_is_not_overdue_however_long(
    stage3: Stage3UnderTest, trial: Trial, clock: ManualClock
) -> None:
    """Retention counts from the end: what was admitted long ago and runs is in progress."""
    token = stage3.issue(scope=SCOPE)
    request = stage3.request(token.token_hash, [step("trial", "hang")])
    call = stage3.plans().ExecuteMultiDomainPlan.future(request, timeout=20)
    assert trial.domain.entered.acquire(timeout=20)
    clock.advance(RETENTION_S * 2)

    asked = stage3.send(again(request, "asked")).reason
    trial.domain.release.set()

    assert asked in {"REQUEST_IN_PROGRESS", "STEP_IN_DOUBT"}
    call.result(20)
    assert stage3.send(again(request, "ended")).kind in {"completed", "in_doubt"}


def test_a_spent_budget_erases_nothing_and_answers_overloaded(
    tmp_path: Path, trial: Trial, clock: ManualClock
) -> None:
    """REQUEST_ID_EXPIRED costs a record, so it has the budget of a denial."""
    with running_stage3(
        tmp_path,
        clock=clock,
        extra_domains=[trial.extra],
        denials={"burst": 1, "per_second": 0},
    ) as stage3:
        request = executed(stage3)
        clock.advance(RETENTION_S + 1)
        reasons = [stage3.send(again(request, f"later-{n}")).reason for n in range(3)]

    assert reasons == ["REQUEST_ID_EXPIRED", "OVERLOADED", "OVERLOADED"]
    assert len(trial.domain.effects) == 1


def test_a_client_is_told_by_stage4_and_not_that_its_request_had_no_effect(
    tmp_path: Path,
) -> None:
    """FAILED_PRECONDITION; the first execution had effects, so `none` would be a lie."""
    with running_pair(tmp_path) as pair:
        document = plan_document(pair.token(), EFFECT)
        assert pair.stage4.execute(document, request_id="once").reason == ""
        pair.clock.advance(RETENTION_S + 1)
        told = [pair.stage4.execute(document, request_id="once")]
        with running_stage4(tmp_path / "new", pair.stage3.service.plans.address) as forgetful:
            told.append(forgetful.execute(document, request_id="once"))

        assert [(each.reason, each.code) for each in told] == [
            ("REQUEST_ID_EXPIRED", "FAILED_PRECONDITION")
        ] * 2
        assert [each.outcome.effects for each in told] == [EFFECTS_UNKNOWN] * 2
        assert len(pair.trial.effects) == 1


@pytest.mark.parametrize(
    ("lives", "retention_s", "accepted"),
    [
        ({}, 172_799, False),
        ({}, 172_800, True),
        ({"max_bound_lifetime_s": 3600}, 89_999, False),
        ({"max_bound_lifetime_s": 3600}, 90_000, True),
        ({"max_bound_lifetime_s": 3600, "max_lifetime_s": 7200}, 90_000, False),
    ],
)
def test_a_retention_shorter_than_a_day_and_a_tokens_life_is_refused(
    tmp_path: Path, lives: dict[str, int], retention_s: int, accepted: bool
) -> None:
    """The sentence says the least that would do."""
    variables = {
        "S_STATE_DIR": str(tmp_path),
        "S_TRUST_DOMAIN": "dev.test",
        "S_OUTCOME_KEY_FILE": str(tmp_path / "keys"),
        "S_OUTCOME_RETENTION_S": str(retention_s),
        **{f"S_TOKENS__{name.upper()}": str(value) for name, value in lives.items()},
    }

    def load() -> Stage3Settings:
        return load_settings(Stage3Settings, file=None, environ=variables, env_prefix="S_")

    if accepted:
        assert load().outcome_retention_s == retention_s
    else:
        with pytest.raises(SettingsRefused, match="outcome_retention_s must be at least"):
            load()


def test_a_tombstone_is_small(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """What is kept for good of a request and its plan, with the pages it needs."""
    connection = apsw.Connection(str(tmp_path / "tombstones"))
    for statement in SCHEMA.statements:
        connection.execute(statement)
    before = pages(connection)
    count = 20_000
    rows = [(hash_of(n), f"plan_{hash_of(n).hex()}") for n in range(count)]
    with connection:
        connection.executemany("INSERT INTO spent_requests VALUES (?)", [row[:1] for row in rows])
        connection.executemany("INSERT INTO spent_plans VALUES (?)", [row[1:] for row in rows])
    after = pages(connection)
    connection.close()

    each = (after - before) * 4096 / count
    record_property("figure", f"a tombstone and its plan_id take {each:.0f} bytes of the store")
    assert each < 128


def pages(connection: apsw.Connection) -> int:
    """Return how many pages a database has."""
    row: Any = connection.execute("PRAGMA page_count").fetchall()[0]
    return int(row[0])


def hash_of(number: int) -> bytes:
    """Return 16 bytes in no order, as tombstones and identifiers come."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest()[:16]
