"""Asks a domain elsewhere once more what it shows, beside the plans, when there is a reason to.

Guards gate 2 from an old answer: a domain that is withheld may show what was accepted again, a
connection that was just made may lead to another program, and so may the session that takes the
place of one that ended. Nothing waits for a look, and a plan is judged by what was seen before its
turn. Deliberately absent: a timer. Each look has one of these reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Final

from structlog.typing import FilteringBoundLogger

from stage3_service.domains.acceptance import Acceptance
from stage3_service.domains.definition import DefinitionUnavailable, Describing

PAUSE_S: Final = 5.0
"""Between two looks that refused steps or a server ask for: a look may start a program, clients
insist, and a program may end as often as it is started."""


@dataclass(slots=True)
class _Looks:
    """The looks at one domain. Guarded by the lock."""

    under_way: bool = False
    again: bool = False
    not_before_s: float = 0.0


class LookingAgain:
    """Looks at domains, at each on a thread of its own and once at a time. Any thread may ask."""

    def __init__(
        self,
        acceptance: Acceptance,
        monotonic_s: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._acceptance = acceptance
        self._monotonic_s = monotonic_s
        self._log = log
        self._lock = Lock()
        self._looks: dict[str, _Looks] = {}
        self._open: Mapping[str, Describing] = {}
        self._early: set[str] = set()

    def begin(self, opened: Mapping[str, Describing]) -> None:
        """Know the open domains by name, and look at those that were connected meanwhile."""
        with self._lock:
            self._open, early = opened, self._early & opened.keys()
        for domain in early:
            self.on_connected(domain)

    def on_withheld(self, domain: str) -> None:
        """Look because a step was withheld, unless somebody looked in the last seconds.

        It is asked inside a turn of the log, and returns at once.
        """
        self._look_soon(domain)

    def on_doubt(self, domain: str) -> None:
        """Look because its server says that it changed, or has ended, under the same limit.

        A call that comes before the answer asks by itself, once it was started.
        """
        self._look_soon(domain)

    def on_connected(self, domain: str) -> None:
        """Look because there is a new connection, once more if a look was under way."""
        with self._lock:
            if domain not in self._open:
                self._early.add(domain)
                return
            looks = self._looks.setdefault(domain, _Looks())
            if looks.under_way:
                looks.again = True
                return
            looks.under_way = True
        self._start(domain)

    def _look_soon(self, domain: str) -> None:
        with self._lock:
            looks = self._looks.setdefault(domain, _Looks())
            if (
                domain not in self._open
                or looks.under_way
                or self._monotonic_s() < looks.not_before_s
            ):
                return
            looks.under_way = True
        self._start(domain)

    def _start(self, domain: str) -> None:
        Thread(target=self._work, args=(domain,), name=f"look-{domain}", daemon=True).start()

    def _work(self, domain: str) -> None:
        try:
            # What shows nothing stays what it was: withheld, or unreachable for whoever calls it.
            with suppress(DefinitionUnavailable):
                self._look(domain)
        finally:
            with self._lock:
                looks = self._looks[domain]
                again, looks.again, looks.under_way = looks.again, False, False
                looks.not_before_s = self._monotonic_s() + PAUSE_S
        if again:
            self.on_connected(domain)

    def _look(self, domain: str) -> None:
        was_withheld = self._acceptance.withholds(domain)
        is_accepted = self._acceptance.is_accepted(domain, self._open[domain].describe().digest)
        if is_accepted and was_withheld:
            self._log.info("a domain shows what was accepted again", domain=domain)
        elif not is_accepted and not was_withheld:
            self._log.warning(
                "a domain is withheld: what it shows is not what was accepted",
                domain=domain,
                advice=f"look at it with `stage3 domain describe {domain}`",
            )
