"""Ports that stay with whoever is away for a moment: a service that was killed, or comes later.

A port that is merely free goes to the next program that asks the system for one, and then a
restart at the old address is refused. A socket that is bound and never listens keeps it: Linux
gives such a port to nobody that asks for any, and still to a listener that names it.
"""

from __future__ import annotations

import socket


class ReservedPort:
    """One port of this machine's loopback address, until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        # What lets a listener bind beside it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Give it back to the system."""
        self._socket.close()

    def __enter__(self) -> str:
        """Return the address."""
        return self.address

    def __exit__(self, *_exception: object) -> None:
        self.close()
