"""Starts the program of one MCP server under its confinement, and ends it with all it started.

Guards against a child that is left behind: it has a process group of its own, which is killed as a
whole, and it is waited for. It is killed by the kernel when Stage-3 dies. Deliberately absent:
reading its error output, which may quote parameters, and starting it a second time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Final

from stage3_service.adapters.mcp.confined import Confinement

_LAUNCHER: Final = ("-I", "-m", "stage3_service.adapters.mcp.confined")
_GRACE_S: Final = 2.0
"""What the protocol asks for: a server ends by itself once its input has ended."""
_TERMINATE_S: Final = 1.0
_KILLED_S: Final = 2.0
_POLL_S: Final = 0.01
_MAX_REFUSAL_BYTES: Final = 1000


class ChildRefused(Exception):
    """The program does not run: it cannot be started as declared."""


class Child:
    """One running program, its input and its output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take a process that leads its own group."""
        self._process = process

    @property
    def pid(self) -> int:
        """The process, which is also its group."""
        return self._process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """Where requests go."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Where messages come from."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        return self._process.stdout

    async def stop(self, *, at_once: bool) -> None:
        """End the program and everything in its group, and wait until it is gone.

        It gets a moment to end by itself, unless it is known to hang.
        """
        with suppress(OSError):
            self.stdin.close()
        if not (not at_once and await self._has_ended(_GRACE_S)):
            self._signal(signal.SIGKILL if at_once else signal.SIGTERM)
            await self._has_ended(_TERMINATE_S)
        # Also when the leader is gone: what it started may still be there.
        self._signal(signal.SIGKILL)
        await self._has_ended(_KILLED_S)
        # What escaped from the group may hold the pipes; nobody reads them any more.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - no public door

    async def _has_ended(self, timeout_s: float) -> bool:
        # Not `wait`, which also waits for whoever inherited the pipes.
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while self._process.returncode is None:
            if asyncio.get_running_loop().time() >= deadline_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


async def start_child(confinement: Confinement, *, show_errors: bool) -> Child:
    """Start the program and return once it runs in place of its launcher.

    Raises:
        ChildRefused: it cannot be confined as declared, or not be run.

    """
    refusal, told = os.pipe()
    argument = replace(confinement, parent_pid=os.getpid(), refusal_descriptor=told).as_argument()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *_LAUNCHER,
            argument,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if show_errors else asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
            pass_fds=(told,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(refusal)
        raise ChildRefused(f"the launcher cannot be started: {error.strerror}") from error
    finally:
        os.close(told)
    child = Child(process)
    try:
        # Ends when the launcher becomes the program, which closes its side, or says why not.
        reason = await asyncio.to_thread(_read_all, refusal)
        if reason:
            raise ChildRefused(reason)
    except BaseException:
        await child.stop(at_once=True)
        raise
    return child


def _read_all(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as pipe:
        text = pipe.read(_MAX_REFUSAL_BYTES).decode(errors="replace")
    return "".join(character if character.isprintable() else " " for character in text)
