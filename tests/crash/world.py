"""What plans have their effects on, outside the process that is killed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.crash.shapes import LOSES_ITS_ANSWER
from tests.fakes.remote_domain import running_remote_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.remote_domain import RemoteDomain


class World:
    """A domain elsewhere, in this process, which outlives every service that calls it.

    `on_effect` is called with each idempotency key, before the effect's answer.
    """

    def __init__(self, remote: RemoteDomain) -> None:
        self.address = remote.address
        self.on_effect: Callable[[str], None] = lambda _key: None
        self._remote = remote
        remote.on_call = self._called

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect that this domain had, oldest first."""
        return list(self._remote.trial.effects)

    def _called(self) -> None:
        call = self._remote.received[-1]
        if call.method == LOSES_ITS_ANSWER:
            self._remote.trial.effects.append(call.idempotency_key)
        self.on_effect(call.idempotency_key)


@contextmanager
def running_world() -> Iterator[World]:
    """Serve the domain elsewhere."""
    with running_remote_domain() as remote:
        yield World(remote)
