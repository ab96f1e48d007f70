"""The first five minutes are as the README says: `make run`, `make up`, `make down`."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.first_run import pids
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
    answered = pair.attempt("stage3", "status", "--json")
    down = first_run("down", "--home", home)

    assert up.returncode == 0, up.stderr
    assert again.returncode == 1
    assert f"first_run.py down --home {home}" in up.stdout
    assert f"first_run.py down --home {home}" in again.stderr
    assert None not in held
    assert answered.returncode == 0, answered.stderr
    assert down.returncode == 0, down.stderr
    assert holder_of(pair.stage3_store) is None
    assert holder_of(pair.stage4_store) is None
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
    assert "FREE_PORTS=1" in done.stderr
    assert holder_of(LocalPair(home / "up").stage3_store) is None
    # The settings name the default ports by now; the way out works all the same.
    elsewhere = first_run("up", "--home", home, "--free-ports")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert LocalPair(home / "up").attempt("stage4", "plan", "list").returncode == 0


def test_a_pair_whose_files_are_gone_is_still_stopped(home: Path) -> None:
    """Its state was removed while it ran: a second start is refused, and `down` finds both."""
    assert first_run("up", "--home", home, "--free-ports").returncode == 0
    running = {pid for pid in pids(LocalPair(home / "up")).values() if pid is not None}
    shutil.rmtree(home / "up")

    again = first_run("up", "--home", home, "--free-ports")
    down = first_run("down", "--home", home)

    assert len(running) == 2
    assert again.returncode == 1
    assert "runs already" in again.stderr
    assert down.returncode == 0, down.stderr
    assert all(f"kill {pid} " in down.stdout for pid in running)
    assert set(pids(LocalPair(home / "up")).values()) == {None}


def test_nothing_is_left_running_when_the_end_of_up_fails(home: Path) -> None:
    """Nobody reads what it prints: both services are stopped again."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "examples/first_run.py", "up", "--home", home, "--free-ports"],
            cwd=ROOT,
            stdout=write,
            timeout=100,
            check=False,
        )
    finally:
        os.close(write)

    assert done.returncode == 1
    assert set(pids(LocalPair(home / "up")).values()) == {None}


def test_up_where_nothing_may_be_written_is_a_sentence(tmp_path: Path) -> None:
    """The path and the system's word, no trace, nothing left running."""
    (tmp_path / "up").write_text("in the way")
    done = first_run("up", "--home", tmp_path / "up" / "below", "--free-ports")

    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_would_be_ignored_are_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the caller's shell does not reach into the pair, and is not dropped unsaid."""
    monkeypatch.setenv("STAGE4_LISTEN__CLIENTS", "127.0.0.1:7501")

    done = first_run("up", "--home", home, "--free-ports")

    assert "not used here: STAGE4_LISTEN__CLIENTS" in done.stdout
