"""A connection that shows the certificate its files hold now, without ending a call for it.

A connection keeps the certificate of its handshake, so a replaced certificate takes a new
connection. It is made beside the old one, which serves until the new one stands; calls under way
end where they began. Deliberately absent: a call that is moved, or sent a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import grpc

from servicekit.serving.connection import Connection, Connections
from servicekit.serving.rotation import Rotation
from servicekit.serving.tls import Credential, secure_channel_credentials

OpenChannel = Callable[[grpc.ChannelCredentials | None], grpc.Channel]


def keep_connected(
    rotation: Rotation | None,
    open_channel: OpenChannel,
    on_session: Callable[[], None] | None = None,
) -> Connections:
    """Begin to connect, with the certificate that is current at any time, or with none.

    `on_session` is `Connection`'s.
    """
    if rotation is None:
        return Connection(open_channel(None), on_session)
    return RotatingConnection(rotation, open_channel, on_session)


class RotatingConnection:
    """The connection of the current certificate. Any number of threads may use it."""

    def __init__(
        self,
        rotation: Rotation,
        open_channel: OpenChannel,
        on_session: Callable[[], None] | None = None,
    ) -> None:
        """Begin to connect."""
        self._on_session = on_session
        self._rotation = rotation
        self._open_channel = open_channel
        self._lock = Lock()
        self._shown = rotation.current()
        self._used = self._connect(self._shown)
        self._successor: Connection | None = None
        self._closed = False

    @contextmanager
    def using(self) -> Iterator[Connection]:
        """Hand out the connection of one call: the newest, or the one before while that stands."""
        credential = self._rotation.current()
        with ExitStack() as use:
            # Chosen and marked as used in one: in between it could be closed, and watched no more.
            with self._lock:
                connection = use.enter_context(self._choose(credential).using())
            yield connection

    def close(self) -> None:
        """Stop watching; calls in flight end as they would."""
        with self._lock:
            self._closed = True
            self._used.close()
            if self._successor is not None:
                self._successor.close()

    def _choose(self, credential: Credential) -> Connection:
        if credential is not self._shown and not self._closed:
            if self._successor is not None:
                self._successor.close()
            self._shown = credential
            self._successor = self._connect(credential)
        successor = self._successor
        # Where neither stands, the next connection is the new certificate's.
        if successor is not None and (successor.is_ready or not self._used.is_ready):
            self._used.close()
            self._used, self._successor = successor, None
        return self._used

    def _connect(self, credential: Credential) -> Connection:
        channel = self._open_channel(secure_channel_credentials(credential))
        return Connection(channel, self._on_session)
