"""The mandatory events: each emitted by a real path, with its fields, its order and its cause."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from stagegate.stage3.v1 import audit_service_pb2, operator_service_pb2

from servicekit.canonical_json import canonicalize
from servicekit.store.key_ring_file import add_key
from stage3_service.audit.event import EventType, NewEvent, Status
from tests.fakes.domains import trial_domain
from tests.fakes.remote_domain import running_remote_domain
from tests.harness.mcp import mcp_table, trial_keys
from tests.harness.remote import domain_client, write_domains_file
from tests.harness.stage3 import running_stage3, stage3_settings, step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {"text": ("upper",), "trial": ("echo", "silent", "hang", "stall", "fail")}
ECHO = step("trial", "echo", a=1)

FIELDS = {
    "v", "seq", "event_type", "timestamp", "user_id", "token_id", "plan_id", "step", "domain",
    "method", "status", "reason", "additional_data",
}  # fmt: skip


def _a_success(stage3: Stage3UnderTest, _clock: ManualClock) -> None:
    stage3.run(stage3.issue(scope=SCOPE).token_hash, ECHO)


def _a_denial(stage3: Stage3UnderTest, _clock: ManualClock) -> None:
    stage3.run("token_" + "A" * 43, ECHO)


def _a_revocation(stage3: Stage3UnderTest, _clock: ManualClock) -> None:
    stage3.revoke(stage3.issue(scope=SCOPE).token.token_id)


def _an_expiry(stage3: Stage3UnderTest, clock: ManualClock) -> None:
    token = stage3.issue(scope=SCOPE, lifetime_seconds=1)
    clock.advance(1)
    stage3.run(token.token_hash, ECHO)


def _a_domain_calling_back(stage3: Stage3UnderTest, _clock: ManualClock) -> None:
    request = stage3.request("token_" + "A" * 43, [ECHO])
    stage3.send(request, caller="domain")


def _a_silent_domain(stage3: Stage3UnderTest, _clock: ManualClock) -> None:
    stage3.run(stage3.issue(scope=SCOPE).token_hash, step("trial", "silent"))


def _a_halt(stage3: Stage3UnderTest, _clock: ManualClock) -> None:
    stage3.operator().Halt(operator_service_pb2.HaltRequest(reason="drill"), timeout=5)


def _a_resumption(stage3: Stage3UnderTest, clock: ManualClock) -> None:
    _a_halt(stage3, clock)
    stage3.operator().Resume(operator_service_pb2.ResumeRequest(reason="over"), timeout=5)


PATHS: dict[str, tuple[Callable[[Stage3UnderTest, ManualClock], None], str]] = {
    "TOKEN_ISSUED": (_a_success, "success"),
    "TOKEN_FIRST_USED": (_a_success, "success"),
    "TOKEN_VALIDATION": (_a_success, "success"),
    "AUTHORIZATION_SCOPE_CHECK": (_a_success, "success"),
    "RESOURCE_LIMIT_CHECK": (_a_success, "success"),
    "DATA_BOUNDARY_CHECK": (_a_success, "success"),
    "EXECUTION_STARTED": (_a_success, "started"),
    "EXECUTION_COMPLETED": (_a_success, "success"),
    "EXECUTION_DENIED": (_a_denial, "denied"),
    "TOKEN_REVOKED": (_a_revocation, "success"),
    "TOKEN_EXPIRED": (_an_expiry, "expired"),
    "BOUNDARY_VIOLATION": (_a_domain_calling_back, "denied"),
    "OPERATION_ABORTED": (_a_silent_domain, "aborted"),
    "SERVICE_HALTED": (_a_halt, "success"),
    "SERVICE_RESUMED": (_a_resumption, "success"),
}
ELSEWHERE = {
    *("LATE_OUTCOME", "DENIALS_SUPPRESSED", "KEY_ROTATED", "STORE_RESTORED"),
    *("DOMAIN_ACCEPTED", "DOMAINS_RELOADED", "DOMAIN_UNCONFINED"),
}
"""Types whose paths need a set-up of their own; see the classes below."""


class TestEveryTypeHasAPath:
    """No type is a promise on paper."""

    def test_the_list_is_closed_and_covered(self) -> None:
        """Every member of the vocabulary is provoked by a test of this file."""
        assert {member.value for member in EventType} == set(PATHS) | ELSEWHERE

    @pytest.mark.parametrize("event_type", PATHS)
    def test_it_is_emitted(
        self, stage3: Stage3UnderTest, clock: ManualClock, event_type: str
    ) -> None:
        """The path leaves exactly one event of the type, with its status and every field."""
        provoke, status = PATHS[event_type]
        provoke(stage3, clock)
        events = stage3.events(event_type=event_type)
        assert len(events) == 1, events
        event = events[0]
        assert set(event) == FIELDS
        assert (event["v"], event["status"]) == (1, status)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
        if status == "denied":
            assert event["reason"]

    def test_an_answer_that_came_late_is_recorded_after_the_end(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """LATE_OUTCOME follows the terminal event and changes nothing that was told."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(token.token_hash, step("trial", "stall"))
        assert answer.kind == "in_doubt"
        trial.domain.release.set()
        late: list[dict[str, Any]] = []
        for _ in range(2000):
            late = stage3.events(event_type="LATE_OUTCOME")
            if late:
                break
        events = stage3.events(plan_id="plan-1")
        assert [event["event_type"] for event in events[-2:]] == [
            "OPERATION_ABORTED",
            "LATE_OUTCOME",
        ]
        assert "terminal" not in late[0]["additional_data"]
        again = stage3.send(
            stage3.request(token.token_hash, [step("trial", "stall")], request_id="request-1")
        )
        assert (again.kind, again.ended) == ("in_doubt", answer.ended)

    def test_what_was_not_recorded_one_by_one_is_counted(self, tmp_path: Path) -> None:
        """Over the budget a denial is OVERLOADED, and one event tells how many there were."""
        settings = stage3_settings(tmp_path)
        denials = settings.denials.model_copy(update={"burst": 3})
        with running_stage3(tmp_path, denials=denials) as stage3:
            reasons = [stage3.run("token_" + "A" * 43, ECHO).reason for _ in range(10)]
            token = stage3.issue()
            assert stage3.run(token.token_hash, step("text", "upper", text="a")).kind == "completed"
            suppressed = stage3.events(event_type="DENIALS_SUPPRESSED")
            assert len(stage3.events(event_type="EXECUTION_DENIED")) == 3
        assert reasons == ["TOKEN_NOT_ACCEPTED"] * 3 + ["OVERLOADED"] * 7
        assert [event["additional_data"]["count"] for event in suppressed] == [7]

    def test_a_start_with_another_key_is_recorded(self, tmp_path: Path) -> None:
        """The first key of a store is no event, a later one is, and only its name is in it."""
        keys = stage3_settings(tmp_path).outcome_key_file
        with running_stage3(tmp_path) as stage3:
            assert stage3.events() == []
        add_key(keys, os.urandom)
        with running_stage3(tmp_path, create=False) as stage3:
            (event,) = stage3.events()
        assert (event["event_type"], event["status"]) == ("KEY_ROTATED", "success")
        assert set(event["additional_data"]) == {"key_id", "previous_key_id"}
        assert keys.read_text().splitlines()[-1] not in json.dumps(event)

    def test_a_thousand_denied_calls_do_not_fill_the_log(self, tmp_path: Path) -> None:
        """With the default budget a thousand refusals leave fewer than two hundred events."""
        settings = stage3_settings(tmp_path)
        defaults = type(settings.denials)()
        with running_stage3(tmp_path, denials=defaults) as stage3:
            for _ in range(1000):
                assert stage3.run("token_" + "A" * 43, ECHO).kind == "refused"
            size = stage3.audit().GetCheckpoint(audit_service_pb2.GetCheckpointRequest(), timeout=5)
        assert size.tree_size < 200


class TestStoreRestored:
    """A start on a store that nothing vouches for is in the log, in the operator's words."""

    def test_it_is_emitted(self, tmp_path: Path) -> None:
        """Accepting a store without its checkpoint leaves one, and the halt beside it."""
        with running_stage3(tmp_path) as stage3:
            stage3.issue()
        (tmp_path / "stage3-checkpoint" / "stage3.checkpoint").unlink()
        with running_stage3(tmp_path, create=False, accept_restored="it fell over") as stage3:
            (event,) = stage3.events(event_type="STORE_RESTORED")
            assert set(event) == FIELDS
            assert (event["status"], event["reason"]) == ("success", "it fell over")
            assert event["additional_data"] == {
                "cause": "missing",
                "checkpoint_root": None,
                "checkpoint_size": None,
            }
            (halted,) = stage3.events(event_type="SERVICE_HALTED")
            assert halted["seq"] == event["seq"] + 1


class TestDomainsReloaded:
    """Other declarations are served on somebody's word, in the log."""

    def test_it_is_emitted(self, tmp_path: Path) -> None:
        """One event, with who asked, the names, and the digest of the file."""
        with running_remote_domain() as remote:
            declared = write_domains_file(tmp_path / "domains.json", remote.address)
            with running_stage3(
                tmp_path, domains_file=declared, domain_client=domain_client()
            ) as stage3:
                stage3.operator().ReloadDomains(operator_service_pb2.ReloadDomainsRequest())
                (event,) = stage3.events(event_type="DOMAINS_RELOADED")
        assert set(event) == FIELDS
        assert (event["status"], event["additional_data"]["by"]) == ("success", "oona")
        assert event["additional_data"]["domains"] == ["trial", "text"]
        assert len(event["additional_data"]["declarations_digest"]) == 64


class TestDomainAccepted:
    """What a domain elsewhere may show is an operator's decision, in the log."""

    def test_it_is_emitted(self, tmp_path: Path) -> None:
        """One event, with the domain, who accepted, and both digests."""
        with running_remote_domain() as remote:
            declared = write_domains_file(tmp_path / "domains.json", remote.address)
            with running_stage3(
                tmp_path, domains_file=declared, domain_client=domain_client()
            ) as stage3:
                digest = stage3.accept("trial")
                (event,) = stage3.events(event_type="DOMAIN_ACCEPTED")
        assert set(event) == FIELDS
        assert (event["domain"], event["status"]) == ("trial", "success")
        assert event["additional_data"] == {
            "by": "oona",
            "digest": digest,
            "previous_digest": None,
        }


class TestDomainUnconfined:
    """A program that runs as Stage-3 itself is in the log, before it runs."""

    def test_it_is_emitted(self, tmp_path: Path) -> None:
        """Once at each start, for each such domain. Control: without one there is no event."""
        table = mcp_table({"echo": "echo"}, **trial_keys(tmp_path))
        file = tmp_path / "domains.json"
        file.write_text(json.dumps({"domains": {"trial": table}}))
        with running_stage3(tmp_path, domains_file=file) as stage3:
            (event,) = stage3.events()
        assert set(event) == FIELDS
        assert (event["event_type"], event["status"]) == ("DOMAIN_UNCONFINED", "success")
        assert (event["domain"], event["method"]) == ("trial", None)
        assert event["additional_data"] == {"program": table["command"][0]}
        with running_stage3(tmp_path, domains_file=file, create=False) as stage3:
            assert len(stage3.events(event_type="DOMAIN_UNCONFINED")) == 2
        text = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}
        file.write_text(json.dumps({"domains": {"text": text}}))
        with running_stage3(tmp_path, domains_file=file, create=False) as stage3:
            assert len(stage3.events()) == 2


class TestFieldsAndCauses:
    """What an event says, and what stands before it."""

    def test_token_events_carry_no_plan(self, stage3: Stage3UnderTest, clock: ManualClock) -> None:
        """TOKEN_ISSUED, TOKEN_FIRST_USED, TOKEN_EXPIRED, TOKEN_REVOKED are about the token."""
        _a_success(stage3, clock)
        _a_revocation(stage3, clock)
        _an_expiry(stage3, clock)
        for event_type in ("TOKEN_ISSUED", "TOKEN_FIRST_USED", "TOKEN_EXPIRED", "TOKEN_REVOKED"):
            for event in stage3.events(event_type=event_type):
                assert event["plan_id"] is None
                assert event["token_id"].startswith("tok_")

    def test_an_unknown_token_leaves_nothing_of_what_was_presented(
        self, stage3: Stage3UnderTest
    ) -> None:
        """token_id is null, and no event holds the credential, its hash or a part of it."""
        presented = "token_" + "Zz9" * 14 + "Q"
        stage3.run(presented, ECHO)
        events = stage3.events(plan_id="plan-1")
        assert {event["token_id"] for event in events} == {None}
        text = json.dumps(events)
        assert presented[:20] not in text
        from stage3_service.tokens.credential import credential_key

        assert credential_key(presented).hex()[:16] not in text

    def test_first_use_is_recorded_once(self, stage3: Stage3UnderTest) -> None:
        """The second plan of a token is no first use."""
        token = stage3.issue(scope=SCOPE)
        for _ in range(3):
            stage3.run(token.token_hash, ECHO)
        assert len(stage3.events(event_type="TOKEN_FIRST_USED")) == 1

    def test_expiry_is_recorded_once_when_first_seen(
        self, stage3: Stage3UnderTest, clock: ManualClock
    ) -> None:
        """There is no timer: the first refused use observes it, later ones do not again."""
        token = stage3.issue(scope=SCOPE, lifetime_seconds=1)
        clock.advance(5)
        assert stage3.events(event_type="TOKEN_EXPIRED") == []
        assert [stage3.run(token.token_hash, ECHO).reason for _ in range(2)] == [
            "TOKEN_EXPIRED"
        ] * 2
        assert len(stage3.events(event_type="TOKEN_EXPIRED")) == 1

    def test_admission_says_what_was_asked(self, stage3: Stage3UnderTest) -> None:
        """TOKEN_VALIDATION holds digest, request, caller, trigger and number of steps."""
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [ECHO, ECHO])
        stage3.send(request)
        facts = stage3.events(plan_id="plan-1", event_type="TOKEN_VALIDATION")[0]
        assert facts["additional_data"] == {
            "caller": request.caller,
            "plan_digest": request.plan_digest.hex(),
            "request_id": request.request_id,
            "steps": 2,
            "trigger_type": "manual",
        }

    def test_a_binding_is_named_where_it_filled_something(self, stage3: Stage3UnderTest) -> None:
        """DATA_BOUNDARY_CHECK says which binding filled what, by paths and never by value."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(
            token.token_hash,
            step("trial", "echo", word="QUARTZ"),
            step("trial", "echo"),
            bindings=[
                {"source_step": 0, "source_path": "word", "target_step": 1, "target_path": "w"}
            ],
        )
        first, second = stage3.events(plan_id="plan-1", event_type="DATA_BOUNDARY_CHECK")
        assert "filled" not in first["additional_data"]
        assert second["additional_data"]["filled"] == [
            {"binding": 0, "source_path": "word", "source_step": 0, "target_path": "w"}
        ]
        assert "QUARTZ" not in json.dumps(stage3.events())

    def test_values_enter_as_commitments_of_their_own_salt(self, stage3: Stage3UnderTest) -> None:
        """The same parameters twice leave two different commitments."""
        token = stage3.issue(scope=SCOPE)
        for _ in range(2):
            stage3.run(token.token_hash, ECHO)
        commitments = {
            event["additional_data"]["parameters_commitment"]
            for event in stage3.events(event_type="DATA_BOUNDARY_CHECK")
        }
        assert len(commitments) == 2

    def test_stored_bytes_are_canonical(self, stage3: Stage3UnderTest) -> None:
        """Every leaf is the RFC 8785 form of its own value."""
        _a_success(stage3, None)  # type: ignore[arg-type]  # needs no clock
        page = stage3.audit().ListEvents(audit_service_pb2.ListEventsRequest(), timeout=5)
        assert len(page.events) == 8
        for event in page.events:
            assert canonicalize(json.loads(event.event_json)) == event.event_json

    def test_a_denial_without_a_reason_cannot_be_made(self) -> None:
        """What could not be explained afterwards is refused before it is written."""
        with pytest.raises(ValueError, match="needs a reason"):
            NewEvent(EventType.EXECUTION_DENIED, Status.DENIED)

    def test_times_never_go_back(self, stage3: Stage3UnderTest, clock: ManualClock) -> None:
        """A wall clock that steps back a second leaves the log's order untouched."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, ECHO)
        clock.step(-1.0)
        stage3.run(token.token_hash, ECHO)
        times = [event["timestamp"] for event in stage3.events()]
        assert times == sorted(times)

    def test_a_clock_that_goes_back_further_halts_the_service(
        self, stage3: Stage3UnderTest, clock: ManualClock
    ) -> None:
        """More than two seconds behind the log: nothing starts until an operator has looked."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, ECHO)
        clock.step(-10.0)
        assert stage3.run(token.token_hash, ECHO).reason == "SERVICE_HALTED"
        status = stage3.operator().GetStatus(operator_service_pb2.GetStatusRequest(), timeout=5)
        assert (status.serving, status.halt_reason) == (False, "clock")
        stage3.operator().Resume(
            operator_service_pb2.ResumeRequest(reason="clock corrected"), timeout=5
        )
        assert stage3.run(token.token_hash, ECHO).kind == "completed"


class TestReading:
    """The log is read in pages, by filters, and by auditors only."""

    def test_pages_join_to_the_whole(self, stage3: Stage3UnderTest) -> None:
        """Pages of seven and one page of all are the same list."""
        token = stage3.issue(scope=SCOPE)
        for _ in range(4):
            stage3.run(token.token_hash, ECHO)
        seqs: list[int] = []
        page_token = ""
        while True:
            page = stage3.audit().ListEvents(
                audit_service_pb2.ListEventsRequest(page_size=7, page_token=page_token), timeout=5
            )
            seqs += [event.seq for event in page.events]
            page_token = page.next_page_token
            if not page_token:
                break
        assert seqs == list(range(2 + 4 * 6))

    @pytest.mark.parametrize("page_token", ["x", "WyJhIl0=", "WzEsMl0=", "////"])
    def test_a_foreign_page_token_is_refused(
        self, stage3: Stage3UnderTest, page_token: str
    ) -> None:
        """It is an error of the request, not an empty page."""
        with pytest.raises(grpc.RpcError) as refused:
            stage3.audit().ListEvents(
                audit_service_pb2.ListEventsRequest(page_token=page_token), timeout=5
            )
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    def test_recovery_leaves_the_same_type_of_event(self, tmp_path: Path) -> None:
        """What a crash interrupted is closed at the next start as OPERATION_ABORTED, once."""
        extra, domain = trial_domain(max_duration_s=30)
        with running_stage3(tmp_path, extra_domains=[extra]) as stage3:
            token = stage3.issue(scope=SCOPE)
            request = stage3.request(token.token_hash, [step("trial", "hang")])
            call = stage3.plans().ExecuteMultiDomainPlan.future(request, timeout=30)
            assert domain.entered.acquire(timeout=5)
            # The process is gone as far as the store can tell: nothing is settled any more.
            stage3.service._ledger.close()
            domain.release.set()
            call.cancel()
        with running_stage3(tmp_path, extra_domains=[extra], create=False) as again:
            assert again.service.recovered_plans == 1
            last = again.events(plan_id="plan-1")[-1]
            assert (last["event_type"], last["reason"]) == ("OPERATION_ABORTED", "STEP_IN_DOUBT")
            assert last["additional_data"] == {
                "in_doubt": True,
                "recovered": True,
                "terminal": True,
            }
            assert again.send(request).kind == "in_doubt"
        assert len(domain.received) == 1
