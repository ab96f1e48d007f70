"""Start a service from a process that has imported it already, and kill it at a system call.

Importing a service takes twenty times as long as starting it, and a sweep starts it hundreds of
times: this program imports once and forks for each start. The fork runs what the service's own
command runs. Commands come in and events go out as lines of JSON; one service runs at a time.

Run as `python -m tests.crash.fork_server`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servicekit.cli import first_start
from servicekit.store import key_ring_file
from stage3_service.adapters.builtin import notebook_file
from stage3_service.cli.application import main as stage3
from stage4_service.cli.application import main as stage4
from tests.crash import ptrace
from tests.crash.points import KillPoint
from tests.crash.tracer import PLAN_ARRIVES, Tracer
from tests.fakes.lazy_disk import LazyDisk
from tests.harness.serve_stage3 import main as serve_stage3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def _nothing() -> int:
    return 0


def _serve_stage3(directory: str, effects_file: str) -> int:
    return serve_stage3(Path(directory), Path(effects_file))


def _stage3(*arguments: str) -> int:
    sys.argv = ["stage3", *arguments]
    return stage3()


def _stage3_in_place(*arguments: str) -> int:
    """Be a Stage-3 that makes its files where they belong: the failing control of `init`."""

    @contextmanager
    def in_place(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
        path.touch(mode, exist_ok=False)
        yield path

    for module in (first_start, key_ring_file, notebook_file):
        vars(module)["new_file"] = in_place
    return _stage3(*arguments)


def _stage4(*arguments: str) -> int:
    sys.argv = ["stage4", *arguments]
    return stage4()


PROGRAMS: Mapping[str, Callable[..., int]] = {
    "nothing": _nothing,
    "serve stage3": _serve_stage3,
    "stage3": _stage3,
    "stage3 in place": _stage3_in_place,
    "stage4": _stage4,
}
"""What can be run: the two command lines, a Stage-3 with the trial domain in it, and a control."""


class ForkServer:
    """Run one program at a time, and tell what becomes of it."""

    def __init__(self) -> None:
        self._tracer: Tracer | None = None
        self._arming = False
        self._said = -1
        self._line = b""
        self._commands = b""

    def serve(self) -> None:
        """Obey until the input ends; then end what runs."""
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            while (change := ptrace.next_change()) is not None:
                self._take(*change)
            if self._arming and self._tracer is not None and self._tracer.is_armed:
                self._arming = False
                self._tell("armed")
            watched = [0, woken, *([self._said] if self._said >= 0 else [])]
            ready, _, _ = select.select(watched, [], [])
            if woken in ready:
                os.read(woken, 4096)
            if self._said in ready:
                self._hear()
            if 0 in ready and not self._obey():
                return

    def _take(self, thread: int, status: int) -> None:
        tracer = self._tracer
        if tracer is None or not tracer.take(thread, status):
            return
        self._tracer, self._arming = None, False
        while self._said >= 0:
            self._hear()
        self._tell(
            "ended",
            code=os.waitstatus_to_exitcode(status),
            killed_at=tracer.killed_at,
            trail=tracer.trail,
        )

    def _hear(self) -> None:
        heard = os.read(self._said, 65_536)
        if not heard:
            os.close(self._said)
            self._said = -1
        *lines, self._line = (self._line + heard).split(b"\n")
        for line in lines:
            self._tell("said", line=line.decode())

    def _obey(self) -> bool:
        received = os.read(0, 65_536)
        if not received:
            return False
        *lines, self._commands = (self._commands + received).split(b"\n")
        for line in lines:
            command = json.loads(line)
            match command.pop("do"):
                case "start":
                    self._start(**command)
                case "arm":
                    self._arm(command["point"])
                case "kill" if self._tracer is not None:
                    self._tracer.kill()
                case _:
                    pass
        return True

    def _start(
        self, *, program: str, arguments: list[str], log: str, lags: str, point: Any
    ) -> None:
        go, let_go = os.pipe()
        said, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(program, arguments, log, go, say, lags=lags)
        os.close(go)
        os.close(say)
        self._said, self._line = said, b""
        try:
            self._tracer = Tracer(pid)
        except ptrace.CannotTrace as refused:
            self._tell("cannot trace", why=str(refused))
            sys.exit(1)
        if point is not None:
            self._tracer.arm(KillPoint(*point), opens_at=None)
        os.write(let_go, b".")
        os.close(let_go)

    def _arm(self, point: Any) -> None:
        if self._tracer is None:
            return
        self._tracer.arm(KillPoint(*point) if point else None, opens_at=PLAN_ARRIVES)
        self._arming = True

    def _tell(self, event: str, **facts: Any) -> None:
        os.write(1, json.dumps({"event": event, **facts}).encode() + b"\n")


def _become(program: str, arguments: list[str], log: str, go: int, say: int, *, lags: str) -> None:
    """Be the program, in the child, once its tracer holds it."""
    os.read(go, 1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(say, 1)
    os.dup2(written, 2)
    os.closerange(3, 256)
    code = 1
    disk = LazyDisk(lags) if lags else None  # SQLite forgets a disk that nobody holds
    try:
        if disk is not None:
            disk.make_default()
        code = PROGRAMS[program](*arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # A fork that copied a thread's locks would be no process as the service's own is.
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    ForkServer().serve()
