"""Execute one plan: the story of Stage-3.

Read it from top to bottom; every branch of a plan's life is here, and every rule is elsewhere.
Deliberately absent: a loop over anything but the plan's own steps, a second attempt, and any
effect that was not recorded as started first.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, assert_never

from servicekit.invariant import invariant
from stage3_service.audit.journal import JournalUnavailable, OutcomeDamaged
from stage3_service.errors import Reason, Refusal
from stage3_service.execution.admit import (
    Admitted,
    Refused,
    Replayed,
    admit,
    invalid,
    refuse_malformed,
)
from stage3_service.execution.invoke_step import invoke_step
from stage3_service.execution.plan_run import NextStep, PlanRun, Progress
from stage3_service.execution.prepare_step import prepare_step
from stage3_service.execution.settle_step import Following, Silent, Succeeded, settle_step
from stage3_service.execution.submission import PlanAnswer
from stage3_service.plan.parse import PlanInvalid, parse_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servicekit.ijson import JsonValue
    from stage3_service.audit.journal import DurableIntent, Journal, Recorded, Snapshot, Writes
    from stage3_service.audit.outcome import PlanOutcome
    from stage3_service.audit.records import StoredOutcome
    from stage3_service.authorization.denial_budget import DenialBudget
    from stage3_service.execution.admit import Admission
    from stage3_service.execution.house import House
    from stage3_service.execution.late_answers import LateAnswers
    from stage3_service.execution.serving import Served, Serving
    from stage3_service.execution.submission import Call, Submission
    from stage3_service.plan.plan import Plan


class PlanExecutor:
    """Execute plans, any number of them at once, each on the thread that asks.

    `entropy(n)` returns n unpredictable bytes. All effects pass through `journal`. `seal` is told
    of an effect whose outcome could not be recorded: the process must end.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        serving: Serving,
        budget: DenialBudget,
        late: LateAnswers,
        entropy: Callable[[int], bytes],
        seal: Callable[[Exception], None],
    ) -> None:
        self._journal = journal
        self._serving = serving
        self._budget = budget
        self._late = late
        self._entropy = entropy
        self._seal = seal
        self._draining = False

    def stop_starting(self) -> None:
        """Let steps under way end and be recorded, and start no other."""
        self._draining = True

    def execute(self, submission: Submission, call: Call) -> PlanAnswer:
        """Admit a plan, run its steps in order, and answer once its last event is durable.

        Raises:
            Refusal: the plan was not admitted and nothing happened; or, as OUTCOME_UNRECORDED, an
                effect happened whose record could not be made durable.
        """
        with self._serving.using() as served:
            return self._execute(submission, call, served)

    def _execute(self, submission: Submission, call: Call, served: Served) -> PlanAnswer:
        house = served.house
        plan = self._parse(submission, house)
        run = PlanRun(plan, submission, call)
        admitted, intent = self._admit(run, house)
        if isinstance(admitted, Replayed):
            return PlanAnswer(
                admitted.plan_id,
                submission.request_id,
                replay=True,
                outcome=_opened(admitted.outcome),
            )
        outcome = admitted.outcome
        outputs: dict[int, JsonValue] = {}
        results: list[bytes] = []
        progress = Progress()
        while intent is not None:
            started = intent.step
            # Whatever goes wrong in here, a step was started and its outcome is not recorded: a
            # defect must not leave a plan that seems to run for ever behind a service that goes on.
            try:
                answered = invoke_step(intent, served.domains, self._entropy)
                if isinstance(answered.outcome, Succeeded):
                    outputs[started.index] = answered.output
                    results.append(answered.output_json)
                recorded = self._journal.record(
                    partial(
                        settle_step,
                        run=run,
                        token_id=admitted.token_id,
                        ended=started,
                        outcome=answered.outcome,
                        progress=progress,
                        following=self._following(run, started.index, outputs, results, house),
                        house=house,
                    )
                )
            except Exception as error:
                # A journal that is unavailable has sealed itself.
                if not isinstance(error, JournalUnavailable):
                    self._draining = True
                    self._seal(error)
                raise Refusal(
                    Reason.OUTCOME_UNRECORDED,
                    f"step {started.index} was started and its outcome could not be recorded; the "
                    "service seals itself, and says what is known once it is restarted",
                ) from error
            if isinstance(answered.outcome, Succeeded):
                progress = progress.after(answered.outcome.output_bytes)
            outcome, intent = recorded.answer, recorded.intent
            if isinstance(answered.outcome, Silent):
                self._record_late(f"{submission.plan_id}/{started.index}")
        return PlanAnswer(
            submission.plan_id,
            submission.request_id,
            replay=False,
            outcome=invariant(outcome, "a plan ended without an outcome"),
        )

    def _parse(self, submission: Submission, house: House) -> Plan:
        """Trust nothing Stage-4 found: read every rule again, and compare the digests."""
        if violation := submission.first_violation():
            raise self._record_malformed(submission, invalid(*violation))
        try:
            plan = parse_plan(submission.plan, house.limits)
        except PlanInvalid as refused:
            raise self._record_malformed(
                submission, invalid(refused.path, refused.description)
            ) from None
        if plan.digest != submission.claimed_digest:
            raise self._record_malformed(
                submission,
                Refusal(
                    Reason.DIGEST_MISMATCH,
                    "the two services compute different digests of this plan; nothing happened",
                ),
            )
        return plan

    def _record_malformed(self, submission: Submission, refusal: Refusal) -> Refusal:
        recorded = self._record_before_effect(
            partial(refuse_malformed, submission=submission, refusal=refusal, budget=self._budget)
        )
        answer = recorded.answer
        return answer.refusal if isinstance(answer, Refused) else refusal

    def _admit(
        self, run: PlanRun, house: House
    ) -> tuple[Admitted | Replayed, DurableIntent | None]:
        if self._draining:
            raise Refusal(Reason.SERVICE_HALTED, "the service is shutting down; nothing happened")
        first = NextStep(*prepare_step(run.plan, 0, {}, house=house, entropy=self._entropy))
        recorded = self._record_before_effect(
            partial(admit, run=run, first=first, house=house, budget=self._budget)
        )
        match recorded.answer:
            case Refused(refusal, because_of):
                if because_of is not None:
                    _opened(because_of)
                raise refusal
            case Replayed() | Admitted() as answer:
                return answer, recorded.intent
            case _:
                assert_never(recorded.answer)

    def _following(
        self,
        run: PlanRun,
        index: int,
        outputs: Mapping[int, JsonValue],
        results: list[bytes],
        house: House,
    ) -> Following:
        """Return what comes after step `index`, should it have succeeded."""
        after = index + 1
        if after == len(run.plan.steps):
            return Following(None, result_json=_result(results))
        if len(outputs) <= index:
            return Following(None)
        prepared = prepare_step(run.plan, after, outputs, house=house, entropy=self._entropy)
        return Following(NextStep(*prepared), draining=self._draining)

    def _record_late(self, idempotency_key: str) -> None:
        """Record an answer that overtook the record of its step being given up.

        The plan has ended and its outcome is durable: a failure here changes nothing for the
        client, and the journal has sealed itself.
        """
        with suppress(JournalUnavailable):
            self._late.record(idempotency_key)

    def _record_before_effect(
        self, work: Callable[[Snapshot], Writes[Admission]]
    ) -> Recorded[Admission]:
        try:
            return self._journal.record(work)
        except JournalUnavailable as unavailable:
            raise Refusal(
                Reason.AUDIT_UNAVAILABLE,
                "the audit log cannot be written; nothing was started",
            ) from unavailable


def _opened(stored: StoredOutcome) -> PlanOutcome:
    """Return an outcome that the store holds, on the thread of who asks and outside every turn."""
    try:
        return stored.open()
    except OutcomeDamaged as damaged:
        raise Refusal(
            Reason.LOG_CORRUPT,
            "the stored outcome of this request_id was changed in the store and cannot be "
            "told; nothing was executed now",
        ) from damaged


def _result(results: list[bytes]) -> bytes:
    """Return the client's result: every output as its domain wrote it, none re-spelled."""
    items = b",".join(
        b'{"step":%d,"output":%b}' % (index, output) for index, output in enumerate(results)
    )
    return b'{"status":"completed","results":[%b]}' % items
