"""What a service asks of its process: no dumps of its memory, one core if wished, an orderly end.

Deliberately absent: daemonizing, pid files and restarts, which belong to whatever starts the
process.
"""

import ctypes
import gc
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import Final


class ExitCode(IntEnum):
    """How a process ended; the numbers are those of sysexits.h where it has one.

    OK: done. REFUSED: the service was asked and said no. USAGE: the command line makes no sense.
    UNAVAILABLE: the service asked was not reached. INTERNAL: a defect, see the log.
    PORT_BUSY: a listener could not be bound (EX_OSERR). STORE_FAILED: the store failed or is
    damaged (EX_IOERR). STORE_LOCKED: another process has the store (EX_TEMPFAIL).
    CONFIG: settings, certificates or declarations are wrong (EX_CONFIG).
    """

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 69
    INTERNAL = 70
    PORT_BUSY = 71
    STORE_FAILED = 74
    STORE_LOCKED = 75
    CONFIG = 78


class ProcessRefused(Exception):
    """The operating system did not grant what the service requires of its process."""


_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4


def disable_core_dumps() -> None:
    """Keep this process's memory, tokens and keys included, out of any dump.

    Two measures, since neither is enough. RLIMIT_CORE=0 stops the kernel from writing a file, but
    a `core_pattern` that names a pipe (systemd-coredump, apport) ignores the limit. Clearing the
    dumpable attribute stops both, and keeps other processes of the same user from attaching or
    reading /proc/<pid>/mem; but the kernel sets it again on execve, where the limit is inherited.
    The standard library has no prctl, and ctypes calls it without a dependency.

    Raises:
        ProcessRefused: the kernel did not take either of the two.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise ProcessRefused("core dumps cannot be disabled: setrlimit was refused") from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ProcessRefused(f"core dumps cannot be disabled: prctl says {reason}")
    if libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise ProcessRefused("core dumps cannot be disabled: the process is still dumpable")


def pin_to_cpu(cpu: int | None) -> None:
    """Run this process, and every thread it starts from now on, on one CPU; None changes nothing.

    The interpreter runs one thread at a time anyway; moving between cores costs it up to half of
    its throughput.

    Raises:
        ProcessRefused: this process may not run on that CPU.
    """
    if cpu is None:
        return
    allowed = sorted(os.sched_getaffinity(0))
    if cpu not in allowed:
        text = ", ".join(str(number) for number in allowed)
        raise ProcessRefused(f"cannot pin to CPU {cpu}: this process may run on {text}")
    os.sched_setaffinity(0, {cpu})


def spare_what_stays_from_collection() -> None:
    """Search for cycles never again among what the service was built of.

    To be called once it is built: modules, schemas and connections live as long as the process. How
    often the rest is searched stays as it was: a call that ended with an error may be held by a
    cycle, and its stream counts until it is found.
    """
    gc.collect()
    gc.freeze()


def on_hangup(act: Callable[[], None]) -> None:
    """Take SIGHUP as a request to do this, beside the main thread; main thread only.

    The main thread waits for the end, and what is asked for may take a while.
    """
    signal.signal(
        signal.SIGHUP,
        lambda _number, _frame: Thread(target=act, name="hangup", daemon=True).start(),
    )


STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopSwitch:
    """The one way a serving process is told to end: by a signal, or from within by any thread.

    The first request wins. A Python signal handler runs only once the main thread is back between
    two instructions, so a signal that lands just before that thread blocks would be heard when it
    wakes, which is never. Here it waits on a pipe that the C handler itself writes to.
    """

    def __init__(self) -> None:
        self._requests: SimpleQueue[ExitCode] = SimpleQueue()
        self._previous: dict[signal.Signals, Callable[..., object] | int | None] = {}
        self._previous_wakeup = -1
        self._heard, self._said = os.pipe()
        # A full pipe has woken the waiter already; a handler must never wait for it.
        os.set_blocking(self._said, False)

    def install(self) -> None:
        """Take SIGTERM and SIGINT as a request to end with OK; main thread only.

        After the first one, the signals have their default meaning again: a second one ends the
        process at once, drained or not.
        """
        self._previous_wakeup = signal.set_wakeup_fd(self._said, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)

    def uninstall(self) -> None:
        """Put back what `install` replaced; the switch is of no further use."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        if self._previous:
            signal.set_wakeup_fd(self._previous_wakeup)
            os.close(self._heard)
            os.close(self._said)
        self._previous.clear()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._requests.put(ExitCode.OK)

    def request(self, exit_code: ExitCode) -> None:
        """Ask the process to end with this code; from any thread, any number of times."""
        self._requests.put(exit_code)
        with suppress(BlockingIOError):
            os.write(self._said, b"\0")

    def wait(self) -> ExitCode:
        """Block until the first request and return its exit code; main thread, once installed."""
        while True:
            # The byte says only that something happened. Its handler has run by the next line.
            os.read(self._heard, 1)
            with suppress(Empty):
                return self._requests.get_nowait()


def wait_for_stop_signal() -> ExitCode:
    """Block until SIGTERM or SIGINT, for a process that nothing else may end; main thread only."""
    switch = StopSwitch()
    switch.install()
    try:
        return switch.wait()
    finally:
        switch.uninstall()
