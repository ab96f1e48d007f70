"""Each number moves when its thing happens, and none of them tells a secret or a name."""

from __future__ import annotations

import secrets
import socket
import threading
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from stagegate.stage3.v1 import operator_service_pb2

from servicekit.clock import SystemClock
from servicekit.exposition import Kind, Metric
from servicekit.serving.server import PortUnavailable
from servicekit.setting_types import ListenerBounds
from stage3_service.bootstrap import build_stage3, create_state
from stage3_service.metrics import stage3_metrics
from stage3_service.settings import Denials, Listen
from tests.fakes.domains import trial_domain
from tests.fakes.faulty_disk import Fault, FaultyDisk
from tests.harness.pki import TRUST_DOMAIN
from tests.harness.scrape import fetch, scrape, scrape_until, series
from tests.harness.stage3 import Stage3UnderTest, running_stage3, stage3_settings, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial
    from tests.harness.scrape import Series

PLANS = "stagegate_stage3_plans_total"
REFUSALS = "stagegate_stage3_refusals_total"
DENIALS = "stagegate_stage3_denials_total"
STEPS = "stagegate_stage3_steps_total"
HALTED = "stagegate_stage3_halted"
ECHO = step("trial", "echo", a=1)


def address(running: Stage3UnderTest) -> str:
    """Return where the service is scraped."""
    assert running.service.metrics is not None
    return running.service.metrics.address


def completed(running: Stage3UnderTest) -> None:
    """Run a plan of two steps to its end."""
    assert running.run(running.issue(scope=TRIAL).token_hash, ECHO, ECHO).kind == "completed"


def ending(method: str) -> Callable[[Stage3UnderTest], None]:
    """Return what runs one step of the trial domain that does not succeed."""

    def act(running: Stage3UnderTest) -> None:
        assert running.run(running.issue(scope=TRIAL).token_hash, step("trial", method)).reason

    return act


def replayed(running: Stage3UnderTest) -> None:
    """Submit one request twice."""
    token = running.issue(scope=TRIAL).token_hash
    running.run(token, ECHO, request_id="again", plan_id="plan-a")
    assert running.run(token, ECHO, request_id="again", plan_id="plan-b").response is not None


def denied(running: Stage3UnderTest) -> None:
    """Have gate 4 refuse a step of an admitted plan."""
    answer = running.run(running.issue().token_hash, step("text", "upper", unknown=1))
    assert answer.reason == "PARAMETERS_INVALID"


def unknown_token(running: Stage3UnderTest) -> None:
    """Present a token that was never issued."""
    assert running.run("token_" + "0" * 43, ECHO).reason == "TOKEN_NOT_ACCEPTED"


def out_of_scope(running: Stage3UnderTest) -> None:
    """Ask for a domain that the token does not have."""
    assert running.run(running.issue().token_hash, ECHO).reason == "DOMAIN_NOT_IN_SCOPE"


def over_limit(running: Stage3UnderTest) -> None:
    """Ask for more steps than the token has left."""
    token = running.issue(scope=TRIAL, limits={"max_invocations": 1}).token_hash
    assert running.run(token, ECHO, ECHO).reason == "LIMIT_EXCEEDED"


def called_back(running: Stage3UnderTest) -> None:
    """Have a domain's identity knock at the one RPC."""
    request = running.request("token_x", [ECHO])
    assert running.send(request, caller="domain").reason == "METHOD_NOT_PERMITTED"


def halted(running: Stage3UnderTest) -> None:
    """Halt, and submit a plan."""
    running.operator().Halt(operator_service_pb2.HaltRequest(reason="a drill"), timeout=20)
    assert running.run("token_x", ECHO).reason == "SERVICE_HALTED"


TRIAL: Any = {
    "trial": ("echo", "effect", "fail", "silent", "unreachable", "garbage", "hang", "stall")
}
MOVES: list[tuple[Callable[[Stage3UnderTest], None], Series, float]] = [
    (completed, series(PLANS, outcome="completed"), 1),
    (completed, series(STEPS, domain="trial", method="echo", result="success"), 2),
    (
        completed,
        series("stagegate_stage3_step_duration_seconds_count", domain="trial", method="echo"),
        2,
    ),
    (completed, series("stagegate_store_entries"), 13),
    (completed, series("stagegate_store_commits_total"), 4),
    (completed, series("stagegate_store_sync_seconds_count"), 4),
    (completed, series("stagegate_store_batch_works_sum"), 4),
    (ending("fail"), series(PLANS, outcome="failed"), 1),
    (ending("fail"), series(STEPS, domain="trial", method="fail", result="DOMAIN_FAILED"), 1),
    (
        ending("unreachable"),
        series(STEPS, domain="trial", method="unreachable", result="DOMAIN_UNREACHABLE"),
        1,
    ),
    (
        ending("garbage"),
        series(STEPS, domain="trial", method="garbage", result="ANSWER_INVALID"),
        1,
    ),
    (ending("silent"), series(STEPS, domain="trial", method="silent", result="STEP_IN_DOUBT"), 1),
    (ending("silent"), series(PLANS, outcome="in_doubt"), 1),
    (ending("silent"), series("stagegate_stage3_steps_in_doubt_total"), 1),
    (ending("stall"), series("stagegate_stage3_calls_abandoned", domain="trial"), 1),
    (replayed, series(PLANS, outcome="replayed"), 1),
    (denied, series(PLANS, outcome="denied"), 1),
    (denied, series(DENIALS, gate="data_boundary", reason="parameters_invalid"), 1),
    (unknown_token, series(PLANS, outcome="refused"), 1),
    (unknown_token, series(REFUSALS, reason="TOKEN_NOT_ACCEPTED"), 1),
    (unknown_token, series(DENIALS, gate="token", reason="token_unknown"), 1),
    (out_of_scope, series(DENIALS, gate="scope", reason="domain_not_in_scope"), 1),
    (over_limit, series(DENIALS, gate="limits", reason="invocations_exhausted"), 1),
    (called_back, series(DENIALS, gate="authority_boundary", reason="stage3_recursive_invoke"), 1),
    (halted, series(HALTED, reason="operator"), 1),
    (halted, series(REFUSALS, reason="SERVICE_HALTED"), 1),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage3UnderTest]:
    """Run one Stage-3 for all numbers: each is compared with itself."""
    extra, domain = trial_domain()
    with running_stage3(tmp_path_factory.mktemp("metrics"), extra_domains=[extra]) as running:
        yield running
        domain.release.set()


def settled(running: Stage3UnderTest, wanted: Series) -> float:
    """Return a number once a scrape is certainly younger than all that happened before."""
    size = running.service._ledger.head.size
    return scrape_until(address(running), series("stagegate_store_entries"), size)[wanted]


@pytest.mark.parametrize(
    ("act", "wanted", "by"), MOVES, ids=[f"{n}-{move[1][0]}" for n, move in enumerate(MOVES)]
)
def test_a_number_moves_when_its_thing_happens(
    shared: Stage3UnderTest, act: Callable[[Stage3UnderTest], None], wanted: Series, by: float
) -> None:
    """From what is told before, which a rate needs, by what happened and by nothing else."""
    before = settled(shared, wanted)

    act(shared)

    after = scrape_until(address(shared), wanted, before + by)[wanted]
    shared.operator().Resume(operator_service_pb2.ResumeRequest(reason="go on"), timeout=20)
    assert after == before + by


def test_a_clock_that_is_not_believed_is_a_halt(
    stage3: Stage3UnderTest, clock: ManualClock
) -> None:
    """It is told as its own reason, beside the operator's."""
    completed(stage3)
    clock.step(-60)
    stage3.run("token_x", ECHO)
    wanted = series(HALTED, reason="clock")

    found = scrape_until(address(stage3), wanted, 1)

    assert found[wanted] == 1
    assert found[series(HALTED, reason="seal")] == 0


def test_a_failed_write_is_poison_a_halt_and_a_failure(
    tmp_path: Path, clock: ManualClock, trial: Trial
) -> None:
    """The last scrape before the process ends says why it will."""
    disk = FaultyDisk()
    with running_stage3(
        tmp_path, clock=clock, extra_domains=[trial.extra], vfs=disk.name
    ) as running:
        token = running.issue(scope=TRIAL).token_hash
        disk.arm(0, Fault.EIO, forever=True)
        assert running.run(token, ECHO).reason == "AUDIT_UNAVAILABLE"

        found = scrape_until(address(running), series("stagegate_store_poisoned"), 1)

        assert found[series("stagegate_store_poisoned")] == 1
        assert found[series(HALTED, reason="seal")] == 1
        assert found[series("stagegate_store_append_failures_total")] == 1
        assert found[series(REFUSALS, reason="AUDIT_UNAVAILABLE")] == 1


def test_suppressed_denials_are_counted_at_once(
    tmp_path: Path, clock: ManualClock, trial: Trial
) -> None:
    """Long before the log's aggregated event."""
    with running_stage3(
        tmp_path,
        clock=clock,
        extra_domains=[trial.extra],
        denials=Denials(burst=2, per_second=0),
    ) as running:
        for _ in range(5):
            running.run("token_x", ECHO)
        wanted = series("stagegate_stage3_denials_suppressed_total")

        assert scrape_until(address(running), wanted, 3)[wanted] == 3


def test_a_full_listener_tells_its_calls_and_its_refusals(
    tmp_path: Path, clock: ManualClock
) -> None:
    """One call holds the only place, the next one is refused: both are seen."""
    extra, domain = trial_domain(max_duration_s=20.0)
    with running_stage3(
        tmp_path,
        clock=clock,
        extra_domains=[extra],
        plans=ListenerBounds(threads=1, max_in_flight=1),
    ) as running:
        token = running.issue(scope=TRIAL).token_hash
        holder = threading.Thread(target=running.run, args=(token, step("trial", "hang")))
        holder.start()
        assert domain.entered.acquire(timeout=20)
        busy = series("stagegate_listener_calls_in_flight", listener="plans")
        assert scrape_until(address(running), busy, 1)[busy] == 1
        assert running.run(token, ECHO).reason == "OVERLOADED"
        refused = series("stagegate_listener_overloaded_total", listener="plans")
        assert scrape_until(address(running), refused, 1)[refused] == 1
        domain.release.set()
        holder.join()


def test_what_a_start_recovered_is_told(tmp_path: Path) -> None:
    """A store without open plans says zero; `tests/system/test_kill_stage3.py` leaves some."""
    with running_stage3(tmp_path) as running:
        assert scrape(address(running))[series("stagegate_stage3_plans_recovered")] == 0


def test_the_servers_certificate_says_when_it_ends(stage3: Stage3UnderTest) -> None:
    """In the future, and not further than the authority gives."""
    found = scrape(address(stage3))
    ends_s = found[
        series("stagegate_certificate_not_after_timestamp_seconds", certificate="server")
    ]

    assert 0 < ends_s - SystemClock().now_us() / 1e6 < 10 * 366 * 86_400


def test_two_services_in_one_process_share_no_number(tmp_path: Path) -> None:
    """Each has a registry of its own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running_stage3(tmp_path / "one") as one, running_stage3(tmp_path / "two") as two:
        assert one.run("token_x", ECHO).reason == "TOKEN_NOT_ACCEPTED"
        wanted = series(PLANS, outcome="refused")

        assert scrape_until(address(one), wanted, 1)[wanted] == 1
        assert scrape(address(two))[wanted] == 0


CANARY = "canary-" + secrets.token_hex(8)


def test_no_scrape_holds_a_secret_or_a_name(stage3: Stage3UnderTest) -> None:
    """I11: plans of every outcome, with a canary wherever a caller writes, and none in the text."""
    identity = f"spiffe://{TRUST_DOMAIN}/client/{CANARY}"
    issued = stage3.issue(
        scope={**TRIAL, "text": ("upper",)},
        user_id=CANARY,
        capability=CANARY,
        client_identities=[identity],
    )
    token = issued.token_hash
    who = {"user_id": CANARY, "caller": identity}
    seen = set()
    for number, each in enumerate(
        [
            step("trial", "echo", **{CANARY: CANARY}),
            step("trial", "fail", secret=CANARY),
            step("trial", "silent", secret=CANARY),
            step("trial", "garbage", secret=CANARY),
            step("text", "upper", **{CANARY: CANARY}),
            step(CANARY.replace("-", "_"), "echo"),
            step("trial", CANARY.replace("-", "_")),
        ]
    ):
        names = {"plan_id": f"{CANARY}-{number}", "request_id": f"{CANARY}-{number}"}
        for _ in range(2):
            seen.add(stage3.run(token, each, **who, **names).kind)
    seen.add(stage3.run(CANARY, ECHO, **who).kind)
    stage3.send(stage3.request(token, [ECHO], plan_digest=b"\1" * 32))
    stage3.operator().Halt(operator_service_pb2.HaltRequest(reason=CANARY), timeout=20)

    scrape_until(address(stage3), series(HALTED, reason="operator"), 1)
    text = fetch(address(stage3), "/metrics")[1]

    assert seen == {"completed", "failed", "in_doubt", "denied", "refused"}
    for secret in (CANARY, CANARY.replace("-", "_"), token, issued.token.token_id, "spiffe:"):
        assert secret not in text
    assert "stagegate_metrics_unreadable 0.0" in text


def test_control_a_metric_that_counts_by_user_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same canary, in a service whose metrics have one label with a caller's own word."""
    running: list[Stage3UnderTest] = []
    careless = Metric(
        "stagegate_stage3_users_total",
        Kind.COUNTER,
        "Events by user.",
        ("user",),
        lambda: Counter((event["user_id"] or "",) for event in running[0].events()),
    )
    monkeypatch.setattr(
        "stage3_service.bootstrap.stage3_metrics",
        lambda sources: [*stage3_metrics(sources), careless],
    )
    with running_stage3(tmp_path) as stage3:
        running.append(stage3)
        stage3.issue(user_id=CANARY)

        assert CANARY in fetch(address(stage3), "/metrics")[1]


def test_readiness_follows_the_service(stage3: Stage3UnderTest) -> None:
    """Ready while it serves; nothing answers once it has stopped."""
    where = address(stage3)
    assert fetch(where, "/readyz") == (200, "ready\n")

    stage3.service._health.close()

    assert fetch(where, "/readyz") == (503, "not ready\n")
    assert fetch(where, "/healthz") == (200, "alive\n")


def test_hostile_scrapers_harm_neither_plans_nor_the_end(tmp_path: Path) -> None:
    """Two hundred connections that say half a request: plans run, and the service stops."""
    extra, _domain = trial_domain()
    with running_stage3(tmp_path, extra_domains=[extra]) as running, ExitStack() as held:
        host, _, port = address(running).rpartition(":")
        for _ in range(200):
            slow = held.enter_context(socket.create_connection((host, int(port)), 10))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        completed(running)
        wanted = series(PLANS, outcome="completed")
        assert scrape_until(address(running), wanted, 1)[wanted] == 1
        running.close()

        assert running.service.stop(1.0) is True


def test_a_taken_port_is_refused_and_lets_go_of_the_store(tmp_path: Path) -> None:
    """The sentence names the setting, and the next start finds store and ports free."""
    settings = stage3_settings(tmp_path)
    create_state(settings)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = settings.listen.model_copy(update={"metrics": where})
        with pytest.raises(PortUnavailable, match=r"listen\.metrics"):
            build_stage3(settings.model_copy(update={"listen": busy}))

    build_stage3(settings).stop(0.0)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Stage3UnderTest]:
    """Run a Stage-3 that nobody scrapes."""
    listen = Listen(plans="127.0.0.1:0", operators="127.0.0.1:0", probes="127.0.0.1:0", metrics="")
    with running_stage3(tmp_path, listen=listen) as running:
        yield running


def test_an_empty_address_turns_it_off(silent: Stage3UnderTest) -> None:
    """The service is whole without it."""
    assert silent.service.metrics is None
    assert silent.run("token_x", ECHO).reason == "TOKEN_NOT_ACCEPTED"
