"""Each number of Stage-4 moves when its thing happens, and none tells a secret or a name."""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from servicekit.clock import SystemClock
from servicekit.exposition import Kind, Metric
from servicekit.serving.server import PortUnavailable
from stage4_service.audit import EventType, NewEvent, PlanOpened
from stage4_service.bootstrap import build_stage4, init_store, results_of
from stage4_service.metrics import stage4_metrics
from stage4_service.settings import STORE_FILE, Refusals
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.fakes.stage3_service import TOKEN, FakeStage3, refuse, serving
from tests.harness.held_writer import held_writer
from tests.harness.scrape import Series, fetch, scrape, scrape_until, series
from tests.harness.stage4 import Stage4UnderTest, running_stage4, stage4_settings

PLANS = "stagegate_stage4_plans_total"
RECEIVED = "stagegate_stage4_plans_received_total"
FAILURES = "stagegate_stage4_failures_total"


def plan(method: str = "echo", **changes: Any) -> dict[str, Any]:
    """Return a plan of one step."""
    return {
        "user_id": "ada",
        "token_hash": TOKEN,
        "trigger_type": "manual",
        "steps": [{"domain": "trial", "method": method, "parameters": {}}],
        **changes,
    }


def lost(_request: object, _context: object) -> Any:
    """Answer nothing that could be understood."""
    raise RuntimeError("the answer is lost")


def completed(stage4: Stage4UnderTest, _fake: FakeStage3) -> None:
    """Run a plan to its end."""
    assert stage4.execute(plan()).code == "OK"


def replayed(stage4: Stage4UnderTest, _fake: FakeStage3) -> None:
    """Submit one request twice."""
    name = secrets.token_hex(4)
    stage4.execute(plan(), request_id=name)
    assert stage4.execute(plan(), request_id=name).completed.replay


def invalid(stage4: Stage4UnderTest, _fake: FakeStage3) -> None:
    """Submit what is no plan."""
    assert stage4.execute(b"{}").reason == "PLAN_INVALID"


def failed(stage4: Stage4UnderTest, _fake: FakeStage3) -> None:
    """Submit a plan whose step fails."""
    assert stage4.execute(plan("fail")).reason == "DOMAIN_FAILED"


def refused(stage4: Stage4UnderTest, _fake: FakeStage3) -> None:
    """Have Stage-3 refuse the token."""
    assert stage4.execute(plan(token_hash="token_x")).reason == "TOKEN_NOT_ACCEPTED"


def unknown(stage4: Stage4UnderTest, fake: FakeStage3) -> None:
    """Lose Stage-3's answer."""
    fake.script = lost
    assert stage4.execute(plan()).reason == "OUTCOME_UNKNOWN"


MOVES: list[tuple[Callable[[Stage4UnderTest, FakeStage3], None], Series, float]] = [
    (completed, series(RECEIVED, verdict="valid"), 1),
    (completed, series(PLANS, outcome="completed"), 1),
    (completed, series("stagegate_stage4_plan_duration_seconds_count"), 1),
    (completed, series("stagegate_store_entries"), 3),
    (completed, series("stagegate_store_queue_wait_seconds_count"), 2),
    (replayed, series(PLANS, outcome="replayed"), 1),
    (invalid, series(RECEIVED, verdict="invalid"), 1),
    (invalid, series(FAILURES, reason="PLAN_INVALID"), 1),
    (invalid, series(PLANS, outcome="refused"), 1),
    (failed, series(PLANS, outcome="failed"), 1),
    (failed, series(FAILURES, reason="DOMAIN_FAILED"), 1),
    (refused, series(PLANS, outcome="refused"), 1),
    (refused, series(FAILURES, reason="TOKEN_NOT_ACCEPTED"), 1),
    (unknown, series(PLANS, outcome="unknown"), 1),
    (unknown, series(FAILURES, reason="OUTCOME_UNKNOWN"), 1),
]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Stage4UnderTest, FakeStage3]]:
    """Run one Stage-4 for all numbers: each is compared with itself."""
    fake = FakeStage3()
    with (
        serving(fake) as address,
        running_stage4(tmp_path_factory.mktemp("metrics"), address) as running,
    ):
        yield running, fake


@pytest.mark.parametrize(
    ("act", "wanted", "by"), MOVES, ids=[f"{n}-{move[1][0]}" for n, move in enumerate(MOVES)]
)
def test_a_number_moves_when_its_thing_happens(
    shared: tuple[Stage4UnderTest, FakeStage3],
    act: Callable[[Stage4UnderTest, FakeStage3], None],
    wanted: Series,
    by: float,
) -> None:
    """From what is told before, which a rate needs, by what happened and by nothing else."""
    stage4, fake = shared
    where = stage4.service.addresses.metrics
    size = stage4.service.journal.head.size
    before = scrape_until(where, series("stagegate_store_entries"), size)[wanted]

    try:
        act(stage4, fake)
    finally:
        fake.script = None

    assert scrape_until(where, wanted, before + by)[wanted] == before + by


def test_a_stage3_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    """The number that an alert watches."""
    with running_stage4(tmp_path, "127.0.0.1:1", connect_timeout_s=0.1) as stage4:
        assert stage4.execute(plan()).reason == "STAGE3_UNREACHABLE"
        wanted = series(FAILURES, reason="STAGE3_UNREACHABLE")

        assert scrape_until(stage4.service.addresses.metrics, wanted, 1)[wanted] == 1


def test_a_spent_budget_is_told(tmp_path: Path, stage3_address: str) -> None:
    """What was not read, and the records that were not made."""
    with running_stage4(
        tmp_path, stage3_address, refusals=Refusals(burst=1, per_second=0)
    ) as stage4:
        reasons = [stage4.execute(b"{}").reason for _ in range(4)]
        assert reasons == ["PLAN_INVALID", *["OVERLOADED"] * 3]
        wanted = series("stagegate_stage4_refusals_suppressed_total")

        found = scrape_until(stage4.service.addresses.metrics, wanted, 3)

        assert found[wanted] == 3
        assert found[series(RECEIVED, verdict="suppressed")] == 3


def test_a_sealed_log_is_told(tmp_path: Path, stage3_address: str) -> None:
    """Poison, a halt, a failed append and a service that is not ready."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        journal: Any = stage4.service.journal
        with held_writer(journal._ledger):
            assert stage4.execute(plan()).reason == "AUDIT_UNAVAILABLE"
        where = stage4.service.addresses.metrics

        found = scrape_until(where, series("stagegate_store_poisoned"), 1)

        assert found[series("stagegate_store_poisoned")] == 1
        assert found[series("stagegate_stage4_halted", reason="seal")] == 1
        assert found[series("stagegate_store_append_failures_total")] == 1
        assert found[series("stagegate_ready")] == 0
        assert fetch(where, "/readyz")[0] == 503
        assert fetch(where, "/healthz")[0] == 200


def test_what_a_start_recovered_is_told(tmp_path: Path, stage3_address: str) -> None:
    """A plan that was running when a process died is counted by the next one."""
    settings = stage4_settings(tmp_path, stage3_address)
    init_store(settings, clock=SystemClock())
    journal = SqliteJournal.open(
        settings.state_dir / STORE_FILE,
        clock=SystemClock(),
        commit_timeout_s=5,
        results=results_of(settings),
    )
    journal.record(
        (NewEvent(EventType.EXECUTION_STARTED, "ada", "plan_a", {}),),
        opened=PlanOpened("plan_a", "r", "c", "ada", bytes(32), 1),
    )
    journal.close()

    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        found = scrape(stage4.service.addresses.metrics)

    assert found[series("stagegate_stage4_plans_recovered")] == 1


def test_no_scrape_holds_a_secret_or_a_name(stage4: Stage4UnderTest, fake: FakeStage3) -> None:
    """I11: submissions of every kind, with a canary wherever a client writes."""
    canary = "canary-" + secrets.token_hex(8)

    def refuse_by_name(_request: object, context: Any) -> Any:
        refuse(context, "PLAN_INVALID", canary, ((canary, canary),))

    steps = [{"domain": "trial", "method": "echo", "parameters": {canary: canary}}]
    stage4.execute(plan(user_id=canary, steps=steps), request_id=canary)
    stage4.execute(plan(user_id=canary, token_hash=canary))
    stage4.execute(plan(user_id=canary, **{canary: canary}))
    stage4.execute(plan("fail", user_id=canary))
    stage4.execute(canary.encode())
    for script in (refuse_by_name, lost):
        fake.script = script
        stage4.execute(plan(user_id=canary, trigger_type=canary))
    where = stage4.service.addresses.metrics
    scrape_until(where, series(PLANS, outcome="unknown"), 1)

    text = fetch(where, "/metrics")[1]

    assert 'outcome="unknown"} 1.0' in text
    assert "stagegate_metrics_unreadable 0.0" in text
    for secret in (canary, TOKEN, "spiffe:"):
        assert secret not in text


def test_control_a_metric_that_counts_by_user_is_seen(
    tmp_path: Path, stage3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, in a service whose metrics have one label with a client's own word."""
    canary = "canary-" + secrets.token_hex(8)
    running: list[Stage4UnderTest] = []
    careless = Metric(
        "stagegate_stage4_users_total",
        Kind.COUNTER,
        "Events by user.",
        ("user",),
        lambda: Counter((event.user_id,) for event in running[0].service.journal.events()),
    )
    monkeypatch.setattr(
        "stage4_service.bootstrap.stage4_metrics",
        lambda sources: [*stage4_metrics(sources), careless],
    )
    with running_stage4(tmp_path, stage3_address) as stage4:
        running.append(stage4)
        stage4.execute(plan(user_id=canary))

        assert canary in fetch(stage4.service.addresses.metrics, "/metrics")[1]


def test_hostile_scrapers_harm_neither_plans_nor_the_end(
    stage4: Stage4UnderTest,
) -> None:
    """Two hundred connections that say half a request: plans run, and the service stops."""
    with ExitStack() as held:
        host, _, port = stage4.service.addresses.metrics.rpartition(":")
        for _ in range(200):
            slow = held.enter_context(socket.create_connection((host, int(port)), 10))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert stage4.execute(plan()).code == "OK"
        assert fetch(stage4.service.addresses.metrics, "/readyz")[0] == 200
        stage4.close()

        assert stage4.service.stop(1.0) is True


def test_a_taken_port_is_refused_and_lets_go_of_the_store(
    tmp_path: Path, stage3_address: str
) -> None:
    """The sentence names the setting, and the next start finds store and ports free."""
    settings = stage4_settings(tmp_path, stage3_address)
    init_store(settings, clock=SystemClock())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = settings.listen.model_copy(update={"metrics": where})
        changed = settings.model_copy(update={"listen": busy})
        with pytest.raises(PortUnavailable, match=r"listen\.metrics"):
            build_stage4(changed, clock=SystemClock(), ids=lambda: secrets.token_hex(8))

    build_stage4(settings, clock=SystemClock(), ids=lambda: secrets.token_hex(8)).stop(0)
