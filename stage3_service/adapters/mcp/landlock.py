"""Lets the calling process reach only the paths and ports it is given, for good (Landlock).

Guards everything else on the machine from a program that nobody here wrote. What is handled is
denied unless a rule allows it, and no later call can widen it. Deliberately absent: what Landlock
does not see, which is UDP, pathname sockets and the content of /proc; another uid stands before
those.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from typing import Final

MIN_ABI: Final = 4
"""The first that also restricts truncation, renaming out of a tree, and TCP: Linux 6.7."""

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_GET_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
# Bits 0 to 14 are all rights on files that version 4 knows; version 5 adds one.
_FILE_SYSTEM: Final = (1 << 15) - 1
_IOCTL_ABI: Final = 5
_BIND_AND_CONNECT_TCP: Final = 0b11
_CONNECT_TCP: Final = 0b10
# Abstract sockets and signals to processes outside.
_SCOPED: Final = 0b11
_SCOPED_ABI: Final = 6

_READABLE: Final = _EXECUTE | _READ_FILE | _READ_DIR
# Whatever may be written may not be run: what a tool downloads stays data.
_WRITABLE: Final = _FILE_SYSTEM & ~_EXECUTE
_ON_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


class LandlockRefused(OSError):
    """The kernel cannot confine as asked; nothing may be run."""


def supported_abi() -> int:
    """Return the version of Landlock that the kernel has, 0 for none."""
    return max(_syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION), 0)


def ruleset(readable: Sequence[str], writable: Sequence[str], ports: Sequence[int]) -> int:
    """Return the descriptor of a ruleset that allows these paths and TCP connections.

    Everything beneath a readable path may be read and run, beneath a writable one read, written
    and removed.

    Raises:
        LandlockRefused: the kernel has no Landlock, or one that is older than is needed.
        OSError: a path does not exist.

    """
    abi = supported_abi()
    if abi < MIN_ABI:
        raise LandlockRefused(
            f"the kernel has Landlock {abi or 'switched off'}; version {MIN_ABI} is needed (Linux "
            "6.7). Run the server as a service of its own and declare its endpoint."
        )
    handled = _FILE_SYSTEM | (_IOCTL_DEV if abi >= _IOCTL_ABI else 0)
    scoped = _SCOPED if abi >= _SCOPED_ABI else 0
    attributes = struct.pack("=QQQ", handled, _BIND_AND_CONNECT_TCP, scoped)
    size = len(attributes) if scoped else 16
    descriptor = _checked(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    for path in readable:
        _allow(descriptor, path, _READABLE)
    for path in writable:
        _allow(descriptor, path, _WRITABLE)
    for port in ports:
        rule = struct.pack("=QQ", _CONNECT_TCP, port)
        _checked(_ADD_RULE, descriptor, _NET_PORT, rule, 0)
    return descriptor


def restrict_self(descriptor: int) -> None:
    """Put the ruleset in force for this process and all that it will ever start.

    Raises:
        LandlockRefused: the kernel did not, for which `no_new_privs` must be set.

    """
    _checked(_RESTRICT_SELF, descriptor, 0)


def _allow(descriptor: int, path: str, rights: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _ON_A_FILE
        _checked(_ADD_RULE, descriptor, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
    finally:
        os.close(opened)


def _checked(number: int, *arguments: object) -> int:
    answer = _syscall(number, *arguments)
    if answer < 0:
        code = ctypes.get_errno()
        raise LandlockRefused(code, f"Landlock refused: {os.strerror(code)}")
    return answer


def _syscall(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
