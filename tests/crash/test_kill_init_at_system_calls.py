"""kill -9 of `init`: the next `init` finishes, and what it says to do leads to a service.

Each point: an empty directory, `init` killed at a system call, then a person who does what they are
told: `init` again; where it answers that the settings are there, `init` with them; then `serve`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from servicekit.store.ledger import verify_log
from tests.crash.tally import Tally
from tests.harness.slices import slice_of_long_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.forked import Ended, ForkServer
    from tests.crash.points import KillPoint
    from tests.crash.tally import Experiment


@pytest.fixture(scope="module")
def certificates(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what both services are started with."""
    directory = tmp_path_factory.mktemp("certificates") / "certs"
    log = directory.parent / "log"
    assert server.run("stage3", ["certs", "init", directory], log).code == 0, log.read_text()
    return directory


def init(server: ForkServer, service: str, certificates: Path, *, program: str = "") -> Experiment:
    """Return what kills the making of a service's settings and state, by `program`."""

    def experiment(directory: Path, point: KillPoint) -> tuple[Ended, Callable[[], str]]:
        directory.mkdir()
        ended = server.run(program or service, words(directory), directory / "log", point=point)
        assert ended.code in {0, -9}, (directory / "log").read_text()
        return ended, partial(judge, directory)

    def words(directory: Path) -> list[object]:
        return ["init", directory, "--certs", certificates, "--free-ports"]

    def judge(directory: Path) -> str:
        log, config = directory / "log", directory / f"{service}.toml"
        row = "made by the next init"
        if server.run(service, words(directory), log).code != 0:
            before = set(directory.rglob("*"))
            ended = server.run(service, ["init", "--config", config], log)
            assert ended.code == 0, log.read_text()
            made = set(directory.rglob("*")) - before
            row = "made by init with the settings" if made else "made before the kill"
        said = server.start(service, ["serve", "--config", config, "--json"], log)
        assert isinstance(said, dict), log.read_text()
        server.kill()
        assert verify_log(directory / service / f"{service}.sqlite3").problem is None
        return row

    return experiment


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", ["stage3", "stage4"])
def test_an_init_that_was_killed_is_finished_by_the_next(
    server: ForkServer,
    certificates: Path,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
    service: str,
) -> None:
    """No half-made file stands in the way, and none is taken for whole: one call in eight."""
    tally = Tally(tmp_path)
    tally.run_all(init(server, service, certificates), every=8)
    assert tally.violations == []
    assert set(tally.rows) == {
        *("made by the next init", "made by init with the settings", "made before the kill")
    }
    record_property("figure", tally.figure(f"{service} init"))


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_files_that_are_made_in_place_are_noticed(
    server: ForkServer,
    certificates: Path,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The control: an empty file of keys and half a notebook, which the next init cannot use."""
    tally = Tally(tmp_path)
    tally.run_all(init(server, "stage3", certificates, program="stage3 in place"), every=24)
    assert tally.violations != []
    record_property("figure", tally.figure("control: stage3 init, files made in place"))


@pytest.mark.long
@pytest.mark.parametrize("service", ["stage3", "stage4"])
def test_every_call_of_an_init(
    server: ForkServer,
    certificates: Path,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
    service: str,
) -> None:
    """The same at every system call; prints how many there were."""
    part = slice_of_long_run()
    tally = Tally(tmp_path)
    tally.run_all(init(server, service, certificates), part=part)
    assert tally.violations == []
    record_property("figure", part.label(tally.figure(f"{service} init, every call")))
