"""Fixtures of the gRPC door: a world with a real listener."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.servicekit.serving_world import World, worlds


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world whose listeners and channels are closed at the end."""
    yield from worlds(tmp_path / "authority")
