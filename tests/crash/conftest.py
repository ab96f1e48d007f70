"""The fork servers and the world of a sweep."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stage3_service.settings import STORE_FILE
from tests.crash.forked import ForkServer, fork_server
from tests.crash.ptrace import CannotTrace
from tests.crash.world import World, running_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Serve the domain that outlives every kill."""
    with running_world() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Fork services that run as they ship."""
    errors = tmp_path_factory.mktemp("fork-server")
    with skipping_aloud(), fork_server(errors) as running:
        yield running


@pytest.fixture
def careless_server(tmp_path: Path) -> Iterator[ForkServer]:
    """Fork services whose disk says `synced` before it has written."""
    with skipping_aloud(), fork_server(tmp_path, lags="-wal") as running:
        yield running


@pytest.fixture
def hasty_server(tmp_path: Path) -> Iterator[ForkServer]:
    """Fork services that drop their write-ahead log before its content is in Stage-3's store."""
    with skipping_aloud(), fork_server(tmp_path, lags=STORE_FILE) as running:
        yield running


@contextmanager
def skipping_aloud() -> Iterator[None]:
    """Skip where no process can be traced, and say what was not tried."""
    try:
        yield
    except CannotTrace as refused:
        pytest.skip(f"NO KILL POINT WAS TRIED: {refused}")
