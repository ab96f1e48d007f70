"""A service as a process: hardened, announced when ready, drained when told to stop.

Deliberately absent: restarts and daemonizing, which belong to whatever starts the process.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar

from servicekit.log import configure_logging, logger
from servicekit.process import (
    ExitCode,
    StopSwitch,
    disable_core_dumps,
    pin_to_cpu,
    spare_what_stays_from_collection,
)
from servicekit.store.errors import StoreError

POISONED_DRAIN_S: Final = 1.0
"""Seconds that calls under way get to be answered once the store has failed."""

POISONED_END_S: Final = 5.0
"""Seconds after which a process whose store has failed ends, whatever still runs in it."""


class Service(Protocol):
    """What can be started, and drained."""

    def start(self) -> None:
        """Begin to answer."""
        ...

    def stop(self, drain_s: float, /) -> bool:
        """Drain and close; return whether everything under way has ended."""
        ...


S = TypeVar("S", bound=Service)


def serve_process(
    program: str,
    build: Callable[[Callable[[StoreError], None]], S],
    announce: Callable[[S], None],
    *,
    log_level: str,
    cpu: int | None,
    drain_s: float,
) -> ExitCode:
    """Build a service, announce it once it answers, and serve until told to stop.

    `build` gets what to call when the store has failed: the process then ends with STORE_FAILED.
    `announce` runs after `start`, so that who reads it may call at once.

    Raises:
        Exception: whatever `build` raises; nothing was served.
    """
    configure_logging(program, log_level)
    disable_core_dumps()
    pin_to_cpu(cpu)
    log = logger(program)
    switch = StopSwitch()
    # Before anything is opened: a signal that arrives meanwhile is an orderly end, too.
    switch.install()

    def seal(error: StoreError) -> None:
        log.critical("the store has failed; ending", error=str(error), advice=error.advice)
        backstop = threading.Timer(POISONED_END_S, os._exit, (int(ExitCode.STORE_FAILED),))
        backstop.daemon = True
        backstop.start()
        switch.request(ExitCode.STORE_FAILED)

    service = build(seal)
    spare_what_stays_from_collection()
    service.start()
    announce(service)
    log.info("serving", pid=os.getpid())
    exit_code = switch.wait()
    log.info("stopping", exit_code=int(exit_code))
    drained = service.stop(drain_s if exit_code is ExitCode.OK else POISONED_DRAIN_S)
    log.info("stopped", drained=drained)
    if not drained:
        # A handler that hangs would keep the interpreter from ever ending. The store is closed.
        os._exit(int(exit_code))
    return exit_code


def announce(program: str, listeners: Mapping[str, str], *, as_json: bool) -> None:
    """Say in one line on standard output that the service answers, and where."""
    if as_json:
        line = json.dumps({"ready": program, "listeners": dict(listeners)})
    else:
        where = ", ".join(f"{name} {address}" for name, address in listeners.items())
        line = f"{program} is ready: {where}"
    print(line, flush=True)
