"""The fork servers and the world of a sweep, and where states of a disk are opened."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.forked import ForkServer, fork_server
from tests.crash.ptrace import CannotTrace
from tests.crash.world import World, running_world

if TYPE_CHECKING:
    from collections.abc import Iterator


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
def hasty_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """Fork services that drop their write-ahead log before their store has its content.

    The parameter names the file of that store.
    """
    with skipping_aloud(), fork_server(tmp_path, lags=request.param) as running:
        yield running


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory in memory where there is one: a state is not to be synced itself."""
    shared = Path("/dev/shm")  # noqa: S108 - a file system in memory
    folder = shared / f"stagegate-{os.getpid()}" if os.access(shared, os.W_OK) else tmp_path / "m"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@contextmanager
def skipping_aloud() -> Iterator[None]:
    """Skip where no process can be traced, and say what was not tried."""
    try:
        yield
    except CannotTrace as refused:
        pytest.skip(f"NO KILL POINT WAS TRIED: {refused}")
