"""What a service asks of its process, tried in real processes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from servicekit.process import ExitCode, ProcessRefused, StopSwitch, pin_to_cpu

ROOT = Path(__file__).parents[3]


def run(code: str) -> subprocess.Popen[str]:
    """Start an interpreter with this program."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def output(code: str) -> str:
    """Run a program that must succeed, and return what it printed."""
    process = run(code)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return printed


class TestCoreDumps:
    """Memory with tokens and keys in it stays in the process."""

    def test_both_measures_take_effect(self) -> None:
        """The limit is zero for good, and the kernel says the process is not dumpable."""
        printed = output(
            "import ctypes, resource\n"
            "from servicekit.process import disable_core_dumps\n"
            "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
            "disable_core_dumps()\n"
            "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
            "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        )
        assert printed.splitlines() == ["1", "0", "(0, 0)"]

    def test_a_crash_leaves_no_core(self) -> None:
        """A process killed by SIGABRT says itself that no core was dumped."""
        process = run(
            "import os\nfrom servicekit.process import disable_core_dumps\n"
            "disable_core_dumps()\nos.abort()\n"
        )
        _pid, status = os.waitpid(process.pid, 0)
        process.returncode = status
        assert os.WTERMSIG(status) == signal.SIGABRT
        assert not os.WCOREDUMP(status)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


class TestPin:
    """One core, if wished."""

    def test_a_process_and_its_later_threads_run_on_the_cpu_named(self) -> None:
        """The affinity is the process's, so a thread started later has it too."""
        cpu = max(os.sched_getaffinity(0))
        printed = output(
            "import os, threading\nfrom servicekit.process import pin_to_cpu\n"
            f"pin_to_cpu({cpu})\n"
            "thread = threading.Thread(target=lambda: print(os.sched_getaffinity(0)))\n"
            "thread.start(); thread.join()\n"
        )
        assert printed.strip() == f"{{{cpu}}}"

    def test_none_changes_nothing(self) -> None:
        """Not pinning is the default."""
        before = os.sched_getaffinity(0)
        pin_to_cpu(None)
        assert os.sched_getaffinity(0) == before

    def test_a_cpu_that_is_not_ours_is_refused(self) -> None:
        """The text says which ones are."""
        with pytest.raises(ProcessRefused, match="cannot pin to CPU 4096: this process may run on"):
            pin_to_cpu(4096)


class TestStop:
    """How a serving process learns that it should end."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_the_wait_with_ok(self, number: signal.Signals) -> None:
        """The process drains and exits by itself, it is not killed."""
        process = run(
            "from servicekit.process import StopSwitch\n"
            "switch = StopSwitch(); switch.install()\nprint('ready', flush=True)\n"
            "print(repr(switch.wait()), 'drained')\n"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert printed == "<ExitCode.OK: 0> drained\n"

    def test_a_process_with_no_other_end_waits_for_the_signal_alone(self) -> None:
        """The short form installs, waits, and puts the handlers back."""
        process = run(
            "import signal\nfrom servicekit.process import wait_for_stop_signal\n"
            "print(repr(wait_for_stop_signal()), signal.getsignal(signal.SIGTERM))\n"
        )
        _wait_until_caught(process.pid, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert printed == f"<ExitCode.OK: 0> {signal.SIG_DFL}\n"

    def test_a_signal_that_wakes_no_instruction_is_heard(self) -> None:
        """The main thread blocks the signal, so another thread takes it and main sleeps on.

        That stands for the moment between main's last instruction and its sleep, which no test can
        hit at will: in both, nothing but the pipe tells it to wake.
        """
        process = run(
            "import signal, threading\nfrom servicekit.process import StopSwitch\n"
            "switch = StopSwitch(); switch.install()\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
            "print('ready', flush=True)\nprint(repr(switch.wait()), flush=True)\n"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=60)
        assert (process.returncode, printed) == (0, "<ExitCode.OK: 0>\n"), errors

    def test_a_second_signal_ends_a_drain_that_hangs(self) -> None:
        """Whoever asks twice does not want to wait."""
        process = run(
            "from servicekit.process import StopSwitch\nimport threading\n"
            "switch = StopSwitch(); switch.install()\nprint('ready', flush=True)\n"
            "switch.wait()\nprint('draining', flush=True)\nthreading.Event().wait()\n"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGTERM

    def test_any_thread_can_ask_and_the_first_one_wins(self) -> None:
        """A store that fails ends the process with its own exit code."""
        switch = StopSwitch()
        asking = threading.Thread(target=switch.request, args=(ExitCode.STORE_FAILED,))
        asking.start()
        asking.join()
        switch.request(ExitCode.OK)
        assert switch.wait() is ExitCode.STORE_FAILED

    def test_uninstalling_puts_the_handlers_back(self) -> None:
        """A switch leaves no trace in a process that goes on."""
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        switch = StopSwitch()
        switch.install()
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        switch.uninstall()
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_what_a_service_is_built_of_is_never_searched_for_garbage_again() -> None:
    """Expect it set aside, and what comes afterwards searched as ever."""
    code = """
import gc, weakref
from servicekit.process import spare_what_stays_from_collection

class Node:
    pass

as_ever = gc.get_threshold()
spare_what_stays_from_collection()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold() == as_ever
node = Node()
node.itself = node
seen = weakref.ref(node)
del node
kept = [[] for _ in range(as_ever[0] + 1)]
assert seen() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_exit_codes_are_those_of_sysexits() -> None:
    """The numbers are promised to whoever restarts the service."""
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0, "REFUSED": 1, "USAGE": 2, "UNAVAILABLE": os.EX_UNAVAILABLE,
        "INTERNAL": os.EX_SOFTWARE, "PORT_BUSY": os.EX_OSERR, "STORE_FAILED": os.EX_IOERR,
        "STORE_LOCKED": os.EX_TEMPFAIL, "CONFIG": os.EX_CONFIG,
    }  # fmt: skip


def _wait_until_caught(pid: int, number: signal.Signals) -> None:
    """Return when the process catches this signal, by what the kernel says of it."""
    for _ in range(100_000):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (number - 1) & 1:
            return
    pytest.fail("the process never caught the signal")
