"""I1 to I11 of the whole pair, after every rule, whatever crashes, is lost or comes late."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stage3_service.authorization import limit_gate
from stage3_service.execution import invoke_step, recover, settle_step
from stage3_service.store.snapshot import SqliteSnapshot
from tests.harness.slices import slice_of_long_run
from tests.simulation.pair_machine import CALLERS, PairMachine
from tests.simulation.pair_nodes import CrashingJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from servicekit.store.ledger import Ledger

FAST_EXAMPLES, CI_EXAMPLES, RULES = 15, 200, 30

TO_BE_MET = {
    *("completed", "STEP_IN_DOUBT", "DOMAIN_FAILED", "ANSWER_INVALID", "DOMAIN_UNREACHABLE"),
    *("TOKEN_NOT_ACCEPTED", "TOKEN_EXPIRED", "LIMIT_EXCEEDED", "METHOD_NOT_IN_SCOPE"),
    *("REQUEST_IN_PROGRESS", "REQUEST_ID_REUSED", "SERVICE_HALTED", "PLAN_HALTED", "DEADLINE"),
    *("OUTCOME_UNKNOWN", "STAGE3_UNREACHABLE", "LATE_OUTCOME", "TOKEN_REVOKED", "deaths"),
}


def search(machine: type[PairMachine], examples: int) -> None:
    """Run the machine; raise what it finds."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=RULES,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
        ),
    )


@pytest.mark.slow
def test_the_pair_keeps_every_invariant() -> None:
    """No sequence of rules, crashes among them, breaks one."""
    run_state_machine_as_test(
        PairMachine, settings=settings(max_examples=FAST_EXAMPLES, stateful_step_count=RULES)
    )


@pytest.mark.ci
@pytest.mark.timeout(1200)
def test_the_pair_keeps_every_invariant_for_minutes(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, with more examples; together they meet all that the machine is for."""
    PairMachine.met.clear()
    run_state_machine_as_test(
        PairMachine, settings=settings(max_examples=CI_EXAMPLES, stateful_step_count=RULES)
    )
    met = PairMachine.met
    assert TO_BE_MET - met.keys() == set()
    record_property(
        "figure",
        f"pair machine: {CI_EXAMPLES} runs of at most {RULES} rules, {met['deaths']} crashes, "
        f"{met['EXECUTION_STARTED']} steps, {met['LATE_OUTCOME']} late answers: 0 violations",
    )


@pytest.mark.long
def test_the_pair_keeps_every_invariant_for_long(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, with new examples each time."""
    part = slice_of_long_run()
    profile = settings.get_profile("long")
    runs = len(part.cases(profile.max_examples))
    PairMachine.met.clear()
    run_state_machine_as_test(
        PairMachine, settings=settings(profile, max_examples=runs, stateful_step_count=RULES)
    )
    met = PairMachine.met
    figure = (
        f"pair machine: {runs:,} runs, {met['deaths']:,} crashes, "
        f"{met['EXECUTION_STARTED']:,} steps: 0 violations"
    )
    record_property("figure", part.label(figure))


def _answers_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def weaken(ledger: Ledger) -> None:
        ledger._writer._connection.execute("PRAGMA synchronous=OFF")

    monkeypatch.setattr(PairMachine, "weaken", staticmethod(weaken))


def _forgets_revocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteSnapshot, "is_revoked", lambda *_: False)


def _keys_requests_without_their_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    by_scope = SqliteSnapshot.request

    def by_any_caller(self: SqliteSnapshot, scope: Any) -> Any:
        prior = by_scope(self, scope)
        return prior or by_scope(self, replace(scope, caller=CALLERS[0]))

    monkeypatch.setattr(SqliteSnapshot, "request", by_any_caller)


def _recovers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "recover", lambda _journal: 0)


def _goes_on_while_halted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle_step, "_reason_to_stop", lambda *_: None)


def _charges_one_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        limit_gate,
        "_invocations_lack",
        lambda limits, usage, needed: (
            limits.max_invocations is not None
            and usage.invocations_charged + needed > limits.max_invocations + 1
        ),
    )


def _tells_before_recording_above(monkeypatch: pytest.MonkeyPatch) -> None:
    record = CrashingJournal._write

    def write(self: CrashingJournal, events: Any, opened: Any, ended: Any) -> Any:
        return record(self, events, opened, ended) if opened is not None else ()

    monkeypatch.setattr(CrashingJournal, "_write", write)


def _quotes_parameters_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    invalid = invoke_step._invalid

    def quoting(step: Any, *rest: Any) -> Any:
        return replace(invalid(step, *rest), message=step.parameters_json.decode())

    monkeypatch.setattr(invoke_step, "_invalid", quoting)


FOUND_FAST = {
    _answers_before_it_is_durable,
    _forgets_revocations,
    _goes_on_while_halted,
    _tells_before_recording_above,
}
SEEDED = (
    _answers_before_it_is_durable,
    _forgets_revocations,
    _keys_requests_without_their_caller,
    _recovers_nothing,
    _goes_on_while_halted,
    _charges_one_too_few,
    _tells_before_recording_above,
    _quotes_parameters_in_errors,
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed",
    [seed if seed in FOUND_FAST else pytest.param(seed, marks=pytest.mark.ci) for seed in SEEDED],
    ids=lambda seed: seed.__name__.strip("_"),
)
def test_a_seeded_fault_is_found(
    seed: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a pair with one protection taken away breaks an invariant."""
    seed(monkeypatch)
    with pytest.raises(AssertionError):
        search(PairMachine, CI_EXAMPLES)
