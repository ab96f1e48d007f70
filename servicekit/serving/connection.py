"""Whether a server can be reached right now, known before a call leaves.

A call that is made only on a connection that stands is a call whose failure means something: what
was not sent had no effect. Deliberately absent: retries. Waiting for a connection sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition
from typing import Protocol

import grpc


class Connections(Protocol):
    """A way to one server that may be another connection at each use."""

    def using(self) -> AbstractContextManager[Connection]:
        """Hand out the connection of one call, watched until the block ends."""
        ...

    def close(self) -> None:
        """Stop watching; what is in use ends as it would."""
        ...


class Connection:
    """Watches one channel. Any number of threads may ask.

    With `on_session` the connection is also kept: one that is lost is asked for at once and not at
    the next call. `on_session` hears of each new one, on a thread of gRPC's, and may not wait.
    """

    def __init__(self, channel: grpc.Channel, on_session: Callable[[], None] | None = None) -> None:
        """Start to watch, and to connect."""
        self.channel = channel
        self._on_session = on_session
        self._changed = Condition()
        self._state = grpc.ChannelConnectivity.IDLE
        self._sessions = 0
        self._users = 0
        self._closed = False
        self._observer: Callable[[grpc.ChannelConnectivity], None] = self._observe
        channel.subscribe(self._observer, try_to_connect=True)

    @property
    def is_ready(self) -> bool:
        """Say whether a connection stood when the channel last said anything."""
        return self._state is grpc.ChannelConnectivity.READY

    @property
    def session(self) -> int:
        """Number the connections of this channel: another number, perhaps another server.

        A channel connects anew by itself, and hears of it a few milliseconds later.
        """
        return self._sessions

    @contextmanager
    def using(self) -> Iterator[Connection]:
        """Hand out this connection, and watch it until the block ends, also when it is closed."""
        with self._changed:
            self._users += 1
        try:
            yield self
        finally:
            with self._changed:
                self._users -= 1
                is_over = self._closed and self._users == 0
            if is_over:
                self.channel.unsubscribe(self._observer)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait for a connection, at most `timeout_s`, and say whether there is one."""
        if self.is_ready:
            return True
        with self._asked_for(), self._changed:
            return self._changed.wait_for(lambda: self.is_ready, timeout_s)

    def close(self) -> None:
        """Stop watching once nobody uses it. The connection goes with the last reference to it.

        gRPC's watching thread looks at the channel for a fraction of a second longer, and would
        die of a channel that was closed under it.
        """
        with self._changed:
            self._closed = True
            is_over = self._users == 0
        if is_over:
            self.channel.unsubscribe(self._observer)

    def _observe(self, state: grpc.ChannelConnectivity) -> None:
        with self._changed:
            is_new = state is grpc.ChannelConnectivity.READY and not self.is_ready
            if is_new:
                self._sessions += 1
            self._state = state
            self._changed.notify_all()
            kept = None if self._closed else self._on_session
        if kept is None:
            return
        if is_new:
            kept()
        elif state is grpc.ChannelConnectivity.IDLE:
            with self._asked_for():
                pass  # gRPC goes on by itself once it was asked

    @contextmanager
    def _asked_for(self) -> Iterator[None]:
        """Ask for a connection: a channel that lost its own stays idle until somebody does."""
        self.channel.subscribe(self._ignore, try_to_connect=True)
        try:
            yield
        finally:
            self.channel.unsubscribe(self._ignore)

    @staticmethod
    def _ignore(_state: grpc.ChannelConnectivity) -> None:
        """Hear nothing; subscribing is how a channel is asked to connect."""
