"""The few requests of ptrace(2) that a killer at system calls needs, on Linux for x86-64.

Guards the meaning of a stop: what waitpid(2) reports is read here, once, into values. Deliberately
absent: reading or changing a traced process's memory and registers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from dataclasses import dataclass
from typing import Final

_CONT: Final = 7
_SYSCALL: Final = 24
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_LISTEN: Final = 0x4208
_GET_SYSCALL_INFO: Final = 0x420E

_TRACE_SYSTEM_CALLS_APART: Final = 0x1
_TRACE_THREADS: Final = 0x8
_KILL_WITH_TRACER: Final = 0x100000

_EVENT_STOP: Final = 128
_SYSTEM_CALL_STOP: Final = signal.SIGTRAP | 0x80
_ENTRY: Final = 1
_ANY_CHILD: Final = 0x40000000
"""__WALL: threads too, which waitpid(2) otherwise leaves out."""

_NAMES: Final = {
    0: "read", 1: "write", 3: "close", 5: "fstat", 7: "poll", 8: "lseek", 9: "mmap",
    10: "mprotect", 11: "munmap", 14: "rt_sigprocmask", 16: "ioctl", 17: "pread64",
    18: "pwrite64", 20: "writev", 28: "madvise", 41: "socket", 42: "connect", 43: "accept",
    44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 56: "clone", 60: "exit",
    72: "fcntl", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate", 86: "link",
    87: "unlink", 143: "sched_getparam", 145: "sched_getscheduler", 186: "gettid", 202: "futex",
    228: "clock_gettime", 230: "clock_nanosleep", 232: "epoll_wait", 233: "epoll_ctl",
    257: "openat", 262: "newfstatat", 273: "set_robust_list", 281: "epoll_pwait",
    285: "fallocate", 290: "eventfd2", 318: "getrandom", 334: "rseq", 435: "clone3",
}  # fmt: skip
"""The system calls that a service makes, as x86-64 numbers them."""


class CannotTrace(Exception):
    """Say why no process can be traced here."""


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 7),
    )


@dataclass(frozen=True, slots=True)
class Stop:
    """Hold why a thread stopped, and the signal that goes on to it when it is resumed.

    `entered` names the system call that it is about to make; None where it is not about to.
    """

    entered: str | None = None
    signal: int = 0
    stays_stopped: bool = False


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, thread: int, address: int, data: object) -> None:
    if _libc.ptrace(request, thread, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def seize(pid: int) -> None:
    """Trace a process from now on, its future threads too, without stopping it.

    It dies with its tracer. The caller's thread is its tracer, and makes every further request.

    Raises:
        CannotTrace: this machine or this kernel does not let it.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise CannotTrace("the numbers of system calls are known for Linux on x86-64 only")
    options = _TRACE_SYSTEM_CALLS_APART | _TRACE_THREADS | _KILL_WITH_TRACER
    try:
        _ptrace(_SEIZE, pid, 0, options)
    except OSError as error:
        raise CannotTrace(f"ptrace: {error.strerror}") from error


def interrupt(thread: int) -> None:
    """Have a running thread stop."""
    _ptrace(_INTERRUPT, thread, 0, None)


def resume(thread: int, stop: Stop, *, to_system_calls: bool) -> None:
    """Let a stopped thread run on, to its next system call or to whatever else stops it."""
    if stop.stays_stopped:
        _ptrace(_LISTEN, thread, 0, None)
    else:
        _ptrace(_SYSCALL if to_system_calls else _CONT, thread, 0, stop.signal)


def next_change() -> tuple[int, int] | None:
    """Return a thread that stopped or ended, with its status, or None. Never wait."""
    try:
        thread, status = os.waitpid(-1, os.WNOHANG | _ANY_CHILD)
    except ChildProcessError:
        return None
    return (thread, status) if thread else None


def read_stop(thread: int, status: int) -> Stop:
    """Say why a thread stopped, from the status that `next_change` gave."""
    number, event = os.WSTOPSIG(status), status >> 16
    if number == _SYSTEM_CALL_STOP:
        return Stop(entered=_entered(thread))
    if event == _EVENT_STOP:
        return Stop(stays_stopped=number != signal.SIGTRAP)
    if event:
        return Stop()
    return Stop(signal=number)


def _entered(thread: int) -> str | None:
    info = _SyscallInfo()
    _ptrace(_GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
    if info.op != _ENTRY:
        return None
    return _NAMES.get(info.number, f"syscall_{info.number}")
