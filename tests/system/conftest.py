"""One pair for all tests that leave it as they found it; whoever breaks something runs its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.pair import running_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.pair import Pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Run both services; every test brings its own tokens and its own request identifiers."""
    with running_pair(tmp_path_factory.mktemp("pair")) as running:
        yield running
