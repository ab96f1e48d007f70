"""The order of the story: recorded, sent, recorded, told."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from stage4_service import Stage4Orchestrator
from stage4_service.audit import EventType, Stage4AuditEvent, event_time
from stage4_service.errors import Effects, FailClosed, JournalUnavailable, Reason
from stage4_service.orchestrator import Submission, record_refused_document
from stage4_service.stage3_port import Ending, Stage3Completion, Stage3Failure
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.plans import a_plan

SUBMISSION = Submission("plan_1", "request-1", "spiffe://x/client/cli", b"\x01" * 32, 99)


class Port:
    """A Stage-3 that returns or raises what it was made with."""

    def __init__(self, outcome: object, journal: MemoryJournal | None = None) -> None:
        self.outcome = outcome
        self.journal = journal
        self.records_before: list[int] = []

    def execute_multi_domain_plan(self, **_plan: Any) -> object:
        """Note how much was recorded before the plan left."""
        if self.journal is not None:
            self.records_before.append(self.journal.records)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def _failure(ending: Ending, **more: Any) -> Stage3Failure:
    return Stage3Failure(
        Reason.DOMAIN_FAILED, "a sentence", ending=ending, effects=Effects.SOME, **more
    )


def _failed(journal: MemoryJournal, outcome: object) -> FailClosed:
    orchestrator = Stage4Orchestrator(Port(outcome), journal=journal, ids=lambda: "id")
    with pytest.raises(FailClosed) as failed:
        orchestrator.execute_plan(a_plan(), submission=SUBMISSION)
    return failed.value


def test_received_and_started_are_one_record_before_the_call() -> None:
    """Expect two records for a plan: one before the port is asked, one before the result."""
    journal = MemoryJournal()
    port = Port(Stage3Completion(b"{}"), journal)
    Stage4Orchestrator(port, journal=journal, ids=lambda: "id").execute_plan(a_plan())
    assert port.records_before == [1]
    assert journal.records == 2
    assert journal.events()[0].timestamp == journal.events()[1].timestamp


def test_events_hold_digests_and_counts() -> None:
    """Expect exactly these members, and nothing of the document's values."""
    journal = MemoryJournal()
    completion = Stage3Completion(b'{"a":1}', b"receipt", replay=True, executed_plan_id="plan_0")
    orchestrator = Stage4Orchestrator(Port(completion), journal=journal, ids=lambda: "id")
    orchestrator.execute_plan(a_plan(), submission=SUBMISSION)
    received, started, completed = journal.events()
    assert set(received.details) == {
        "caller",
        "request_id",
        "raw_digest",
        "raw_bytes",
        "valid",
        "plan_digest",
        "trigger_type",
        "steps",
        "data_bindings",
    }
    assert set(started.details) == {"plan_digest"}
    assert completed.details == {
        "outcome": "completed",
        "steps": 3,
        "result_digest": "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
        "result_bytes": 7,
        "replay": True,
        "original_plan_id": "plan_0",
    }
    ended = journal.plans["plan_1"].ended
    assert ended is not None
    assert (ended.result_json, ended.receipt) == (b'{"a":1}', b"receipt")


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (Ending.REFUSED, "refused"),
        (Ending.FAILED, "failed"),
        (Ending.DENIED, "failed"),
        (Ending.IN_DOUBT, "failed"),
        (Ending.ABORTED, "failed"),
        (Ending.UNKNOWN, "unknown"),
    ],
)
def test_every_ending_is_recorded_as_it_was(ending: Ending, state: str) -> None:
    """Expect outcome, step, effects and Stage-3's word on replay in the third event."""
    journal = MemoryJournal()
    failed = _failed(journal, _failure(ending, step=1, replay=False, executed_plan_id="plan_1"))
    assert (failed.reason, failed.effects) == (Reason.DOMAIN_FAILED, Effects.SOME)
    assert journal.plans["plan_1"].state == state
    assert journal.events()[2].details == {
        "reason": "DOMAIN_FAILED",
        "outcome": ending.value,
        "effects": "some",
        "step": 1,
        "replay": False,
    }


def test_an_exception_nobody_foresaw_means_that_nobody_knows() -> None:
    """Expect OUTCOME_UNKNOWN, the cause chained for the caller, its text kept out of the log."""
    journal = MemoryJournal()
    cause = ValueError("a secret value")
    failed = _failed(journal, cause)
    assert failed.__cause__ is cause
    assert str(failed) == "Stage-4 execution failed (fail-closed): a secret value"
    assert (failed.reason, failed.effects) == (Reason.OUTCOME_UNKNOWN, Effects.UNKNOWN)
    ended = journal.plans["plan_1"].ended
    assert ended is not None
    assert "secret" not in ended.message + repr(journal.events())


def test_an_interrupt_is_recorded_and_goes_on() -> None:
    """Expect KeyboardInterrupt itself, after the record that the outcome is unknown."""
    journal = MemoryJournal()
    orchestrator = Stage4Orchestrator(Port(KeyboardInterrupt()), journal=journal, ids=str)
    with pytest.raises(KeyboardInterrupt):
        orchestrator.execute_plan(a_plan())
    assert journal.events()[-1].details["outcome"] == "unknown"


@pytest.mark.parametrize("broken", [JournalUnavailable("gone"), OSError("gone")])
@pytest.mark.parametrize("outcome", ["result", _failure(Ending.FAILED)])
def test_an_outcome_that_cannot_be_recorded_is_not_told(broken: Exception, outcome: object) -> None:
    """Expect OUTCOME_UNRECORDED whatever the outcome was, and whatever the journal raised."""
    journal = MemoryJournal()
    journal.failures = [None, broken]
    failed = _failed(journal, outcome)
    assert (failed.reason, failed.effects) == (Reason.OUTCOME_UNRECORDED, Effects.SOME)


@pytest.mark.parametrize("document", [{}, [], None, "plan", a_plan(steps=[])])
def test_what_is_no_plan_is_recorded_and_refused(document: Any) -> None:
    """Expect two events in one record, a refused submission, and no call."""
    journal = MemoryJournal()
    port = Port("never", journal)
    orchestrator = Stage4Orchestrator(port, journal=journal, ids=lambda: "id")
    with pytest.raises(FailClosed) as failed:
        orchestrator.execute_plan(document)
    assert failed.value.reason is Reason.PLAN_INVALID
    assert (journal.records, port.records_before) == (1, [])
    assert journal.plans["plan_id"].state == "refused"


def test_a_refusal_that_cannot_be_recorded_is_said_to_be_so() -> None:
    """Expect AUDIT_UNAVAILABLE, effects none."""
    journal = MemoryJournal()
    journal.failures = [JournalUnavailable("gone")]
    with pytest.raises(FailClosed) as failed:
        record_refused_document(journal, SUBMISSION)
    assert (failed.value.reason, failed.value.effects) == (Reason.AUDIT_UNAVAILABLE, Effects.NONE)


def test_the_default_log_lives_as_long_as_its_orchestrator() -> None:
    """Expect a store in a private directory, gone with its owner."""
    orchestrator = Stage4Orchestrator(Port("result"))
    orchestrator.execute_plan(a_plan())
    journal: Any = orchestrator._journal
    path = Path(journal._ledger._readers._path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.exists()
    del orchestrator
    gc.collect()
    assert not path.parent.exists()


def test_an_event_has_an_aware_time_and_frozen_details() -> None:
    """Expect a naive time to be refused and details to be copied and frozen."""
    details = {"steps": [1]}
    event = Stage4AuditEvent(event_time(0), "ada", EventType.PLAN_RECEIVED, "plan_1", details)
    details["steps"].append(2)
    assert event.details == {"steps": [1]}
    with pytest.raises(AttributeError):
        event.user_id = "eve"  # type: ignore[misc]
    with pytest.raises(ValueError, match="aware"):
        Stage4AuditEvent(
            event_time(0).replace(tzinfo=None), "ada", EventType.PLAN_RECEIVED, "plan_1", {}
        )
