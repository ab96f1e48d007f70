"""The first five minutes are as the README says: `make run`, `make up`, `make down`."""

import fcntl
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.local_pair import LocalPair, holder_of

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def first_run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the example as the Makefile does."""
    return subprocess.run(
        [sys.executable, "examples/first_run.py", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_run_tells_the_whole_story(tmp_path: Path) -> None:
    """A plan of three steps: its result, 16 and 3 events, a verified log, nothing left running."""
    done = first_run("run", "--home", tmp_path)

    assert done.returncode == 0, done.stderr
    assert '{"note_id": 1}' in done.stdout
    assert "16 events" in done.stdout
    assert "3 events" in done.stdout
    assert "verified  yes" in done.stdout
    pair = LocalPair(tmp_path / "run")
    assert (tmp_path / "run").stat().st_mode & 0o077 == 0
    assert holder_of(pair.stage3_store) is None
    assert holder_of(pair.stage4_store) is None
    token = (tmp_path / "run" / "demo.token").read_text().strip()
    assert token not in done.stdout + done.stderr


def test_run_begins_anew_each_time(tmp_path: Path) -> None:
    """What an earlier run left is no obstacle."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stage3.toml").write_text("left over")

    assert first_run("run", "--home", tmp_path).returncode == 0


def test_run_refuses_to_pull_the_floor_from_a_running_service(tmp_path: Path) -> None:
    """A service left over from a killed run is named, with how to end it."""
    store = LocalPair(tmp_path / "run").stage3_store
    store.parent.mkdir(parents=True)
    with store.with_name(store.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()

        done = first_run("run", "--home", tmp_path)

    assert done.returncode == 1
    assert "kill 4711" in done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a place for `up`, which is taken down in the end."""
    yield tmp_path
    first_run("down", "--home", tmp_path)


def test_up_keeps_them_running_until_down(home: Path) -> None:
    """`up` again is refused and names the process; `down` stops both; state stays for the next."""
    pair = LocalPair(home / "up")

    up = first_run("up", "--home", home, "--free-ports")
    again = first_run("up", "--home", home, "--free-ports")
    held = {holder_of(pair.stage3_store), holder_of(pair.stage4_store)}
    recorded = {int((home / "up" / f"{name}.pid").read_text()) for name in ("stage3", "stage4")}
    answered = pair.attempt("stage3", "status", "--json")
    down = first_run("down", "--home", home)

    assert up.returncode == 0, up.stderr
    assert again.returncode == 1
    assert "make down" in again.stderr
    assert held == recorded
    assert answered.returncode == 0, answered.stderr
    assert down.returncode == 0, down.stderr
    assert holder_of(pair.stage3_store) is None
    assert holder_of(pair.stage4_store) is None
    assert not list((home / "up").glob("*.pid"))
    assert first_run("up", "--home", home, "--free-ports").returncode == 0


def test_down_with_nothing_running_says_so(tmp_path: Path) -> None:
    """It is no error."""
    done = first_run("down", "--home", tmp_path)

    assert done.returncode == 0
    assert "nothing is running" in done.stdout


def test_up_with_a_busy_port_says_which(home: Path) -> None:
    """The service's own words, a clear end, and nothing left running."""
    # Whether this test or somebody else holds it, the port is taken.
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 7403))
            taken.listen()
        except OSError:
            pass

        done = first_run("up", "--home", home)

    assert done.returncode == 1
    assert "PORT_UNAVAILABLE" in done.stderr
    assert "127.0.0.1:7403" in done.stderr
    assert holder_of(LocalPair(home / "up").stage3_store) is None
