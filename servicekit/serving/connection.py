"""Whether a server can be reached right now, known before a call leaves.

A call that is made only on a connection that stands is a call whose failure means something: what
was not sent had no effect. Deliberately absent: retries. Waiting for a connection sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition

import grpc


class Connection:
    """Watches one channel. Any number of threads may ask."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Start to watch, and to connect."""
        self.channel = channel
        self._changed = Condition()
        self._state = grpc.ChannelConnectivity.IDLE
        self._observer: Callable[[grpc.ChannelConnectivity], None] = self._observe
        channel.subscribe(self._observer, try_to_connect=True)

    @property
    def is_ready(self) -> bool:
        """Say whether a connection stood when the channel last said anything."""
        return self._state is grpc.ChannelConnectivity.READY

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait for a connection, at most `timeout_s`, and say whether there is one."""
        if self.is_ready:
            return True
        # A channel that lost its connection stays idle until somebody asks it to connect.
        self.channel.subscribe(self._ignore, try_to_connect=True)
        try:
            with self._changed:
                return self._changed.wait_for(lambda: self.is_ready, timeout_s)
        finally:
            self.channel.unsubscribe(self._ignore)

    def close(self) -> None:
        """Stop watching. The connection goes with the last reference to this object.

        gRPC's watching thread looks at the channel for a fraction of a second longer, and would
        die of a channel that was closed under it.
        """
        self.channel.unsubscribe(self._observer)

    def _observe(self, state: grpc.ChannelConnectivity) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    @staticmethod
    def _ignore(_state: grpc.ChannelConnectivity) -> None:
        """Hear nothing; subscribing is how a channel is asked to connect."""
