"""The fixtures of the catalogue: a clock that tests move, a domain that obeys, a real Stage-3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from servicekit.clock import SystemClock
from servicekit.log import configure_logging
from tests.fakes.domains import trial_domain
from tests.fakes.manual_clock import ManualClock
from tests.harness.stage3 import Stage3UnderTest, running_stage3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage3_service.adapters.registry import ExtraDomain
    from tests.fakes.domains import TrialDomain


TRIAL_S = 10.0
"""How long a step of the trial domain may take: a test that holds one lets it go long before."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Hold the trial domain as Stage-3 takes it, and as a test looks into it."""

    extra: ExtraDomain
    domain: TrialDomain


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> None:
    """Keep the services' access logs out of a failing test's report."""
    configure_logging("tests", "critical")


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands at the present, where certificates are valid, until moved."""
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def trial() -> Iterator[Trial]:
    """Return a domain that does as it is told."""
    made = Trial(*trial_domain(max_duration_s=TRIAL_S))
    yield made
    made.domain.release.set()


@pytest.fixture
def stage3(tmp_path: Path, clock: ManualClock, trial: Trial) -> Iterator[Stage3UnderTest]:
    """Run Stage-3 with the trial domain beside the builtin ones."""
    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra]) as running:
        yield running
