"""I3 under a race: no EXECUTION_STARTED of a token follows its TOKEN_REVOKED."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.slices import slice_of_long_run
from tests.simulation.revocation_race import run_protected, run_unprotected

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES, TIMES_AS_LONG, AT_MOST = 20, 10, 20_000
ATTEMPTS_LONG = 1_000_000
# The revocation came before the plan, between its steps, and after it.
ENDS = {"refused with effects none", "denied with effects some", "completed with effects some"}


@pytest.mark.ci
@pytest.mark.timeout(1200)
def test_no_start_follows_a_revocation_however_they_race(
    record_property: Callable[[str, object], None],
) -> None:
    """The control decides before its turn until it failed 20 times; the real one, ten times as
    long, never does.
    """
    control = run_unprotected(FAILURES, at_most=AT_MOST)
    assert control.failures == FAILURES
    attempts = TIMES_AS_LONG * control.attempts
    failures, ends = run_protected(attempts)
    record_property(
        "figure",
        f"revoke against start: unprotected {control.failures} of {control.attempts}, "
        f"protected {failures} of {attempts}",
    )
    assert failures == 0
    assert ends.keys() >= ENDS


@pytest.mark.long
def test_no_start_follows_a_revocation_in_a_million_races(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, 10^6 times."""
    part = slice_of_long_run()
    attempts = len(part.cases(ATTEMPTS_LONG))
    failures, ends = run_protected(attempts)
    figure = f"revoke against start: {failures} of {attempts:,}; {dict(ends)}"
    record_property("figure", part.label(figure))
    assert failures == 0
