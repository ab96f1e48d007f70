"""The open domains that plans use now, and the way from one set of declarations to the next.

Guards plans under way: each keeps the set that it began with, and a set is closed once it was
replaced and its last plan has ended. Guards the service: a file is taken whole or not at all, and
its event is durable before the first plan is measured against it. Deliberately absent: watching the
file. It is read when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, Thread

from servicekit.serving.address import AddressRefused
from stage3_service.adapters.builtin.notebook_file import NotebookRefused
from stage3_service.adapters.registry import OpenDomains
from stage3_service.domains.acceptance import Offer
from stage3_service.domains.declaration import Catalogue
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.definition import Describing
from stage3_service.execution.serving import Served


@dataclass(slots=True, eq=False)
class Generation:
    """One set of open domains, what is offered of them, and how many plans use it."""

    opened: OpenDomains
    offer: Offer
    served: Served
    users: int = field(default=0, init=False)
    retired: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Answer a reload: the file's SHA-256 in lower-case hexadecimal, and what it declares."""

    digest: str
    domains: tuple[str, ...]


class ServedDomains:
    """Hand out the newest generation; see `execution.serving.Serving`.

    `read` returns what the file declares and its digest, `begin` opens a generation, `record` makes
    the reload durable.
    """

    def __init__(
        self,
        first: Generation,
        *,
        read: Callable[[], tuple[Catalogue, str]],
        begin: Callable[[Catalogue], Generation],
        record: Callable[[str | None, str, Sequence[str]], None],
    ) -> None:
        self._current = first
        self._read = read
        self._begin = begin
        self._record = record
        self._lock = Lock()
        self._reloading = Lock()

    @property
    def opened(self) -> OpenDomains:
        """Return the domains that the next plan will use."""
        return self._current.opened

    def catalogue(self) -> Catalogue:
        """Return what the next plan will be measured against."""
        return self.opened.catalogue

    def offer(self) -> Offer:
        """Return what is offered of it at any moment from now on."""
        return self._current.offer

    def describing(self, name: str) -> Describing | None:
        """Return the domain of this name that the next plan will use, if it has a definition."""
        return self.opened.describing(name)

    def abandoned(self) -> dict[str, int]:
        """Return how many calls each domain of the newest generation left behind."""
        return self.opened.abandoned()

    @contextmanager
    def using(self) -> Iterator[Served]:
        """Hand out what one plan keeps; see `Serving`."""
        with self._lock:
            generation = self._current
            generation.users += 1
        try:
            yield generation.served
        finally:
            with self._lock:
                generation.users -= 1
                is_over = generation.retired and generation.users == 0
            if is_over:
                _close_aside(generation)

    def reload(self, by: str | None) -> Reloaded:
        """Serve what the file declares now, from the next plan on; one reload at a time.

        Raises:
            DeclarationsRefused: with every problem; what was served is served.
            JournalUnavailable: the reload could not be recorded; what was served is served.

        """
        with self._reloading:
            catalogue, digest = self._read()
            try:
                following = self._begin(catalogue)
            except (NotebookRefused, AddressRefused) as refused:
                raise DeclarationsRefused([str(refused)]) from refused
            reloaded = Reloaded(digest, tuple(following.opened.catalogue.domains))
            try:
                self._record(by, digest, reloaded.domains)
            except BaseException:
                following.opened.close()
                raise
            with self._lock:
                before, self._current = self._current, following
                before.retired = True
                is_over = before.users == 0
            if is_over:
                _close_aside(before)
        return reloaded

    def close(self) -> None:
        """Close the newest generation; an older one is closed by its last plan."""
        self._current.opened.close()


def _close_aside(generation: Generation) -> None:
    # Sessions may take seconds to end, and the plan that was the last one wants its answer.
    Thread(target=generation.opened.close, name="retired-domains", daemon=True).start()
