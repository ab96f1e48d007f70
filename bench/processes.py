"""Processes of a benchmark: each says one line when it is ready, and ends when its input does."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_TIMEOUT_S = 10.0


class Process:
    """Talk to a child process in lines."""

    def __init__(self, name: str, child: subprocess.Popen[str]) -> None:
        if child.stdin is None or child.stdout is None:
            raise ValueError("a process without pipes cannot be talked to")
        self._name = name
        self.pid = child.pid
        self._child = child
        self._in = child.stdin
        self._out = child.stdout

    def read_line(self) -> str:
        """Wait for the next line.

        Raises:
            RuntimeError: the process ended instead.
        """
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with {self._child.wait()}")
        return line.strip()

    def tell(self, line: str) -> None:
        """Send one line."""
        self._in.write(line + "\n")
        self._in.flush()

    def ask(self, line: str) -> str:
        """Send one line and wait for the answer."""
        self.tell(line)
        return self.read_line()

    def end_input(self) -> None:
        """Tell the process that nothing more will be asked."""
        self._in.close()


@contextmanager
def running(module: str, arguments: Sequence[str]) -> Iterator[Process]:
    """Run a module of this package, and end it afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        process = Process(module, child)
        try:
            yield process
        finally:
            process.end_input()
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()


def two_cpus() -> tuple[int, int]:
    """Name the CPU of the outer service and that of the inner one, which may be the same."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1] if len(cpus) == 1 else cpus[1]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has had so far, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return how much memory a process holds, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pin(pid: int, cpu: int) -> None:
    """Keep every thread of a process, and all it will start, on one CPU."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})
