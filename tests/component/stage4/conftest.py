"""A real Stage-4 in front of a Stage-3 that does as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stage3_service import FakeStage3, serving
from tests.harness.stage4 import Stage4UnderTest, running_stage4


@pytest.fixture
def fake() -> FakeStage3:
    """Give a Stage-3 that does as it is told."""
    return FakeStage3()


@pytest.fixture
def stage3_address(fake: FakeStage3) -> Iterator[str]:
    """Serve the fake."""
    with serving(fake) as address:
        yield address


@pytest.fixture
def stage4(tmp_path: Path, stage3_address: str) -> Iterator[Stage4UnderTest]:
    """Run a real Stage-4 in front of the fake."""
    with running_stage4(tmp_path, stage3_address) as running:
        yield running
