"""One listener: its own port, its own bounded pool, its own door.

Deliberately absent: a listener without a door, an insecure listener off loopback, and a port that
two processes share by accident.
"""

from collections.abc import Callable, Sequence
from typing import Final

import grpc

from servicekit.serving.address import Address, parse_address
from servicekit.serving.admission import Bounds, CallPool
from servicekit.serving.capacity import refuse_at_once
from servicekit.serving.channel import MESSAGE_MAX_BYTES
from servicekit.serving.door import Door
from servicekit.serving.health import WATCHES_MAX
from servicekit.serving.interceptors import build_interceptors
from servicekit.serving.policy import CallPolicy
from servicekit.serving.read_watch import ReadWatch
from servicekit.serving.reflection import register_reflection

Register = Callable[[grpc.Server], None]

STREAMS_PER_PLACE: Final = 2
STREAMS_MIN: Final = 128
"""Calls that one connection may have open: so many for each place, and so many at least, because a
watcher of health takes no place. More than one a place, so that a client hears a refusal rather
than wait for its own library. Without a bound a connection that opens calls and takes them back at
once fills gRPC's own queue, and then gRPC drops anybody's calls: what was taken back counts until
gRPC is done with it."""

OTHERS_WAITING: Final = 8
"""Calls beside those with a place and the watchers of health: those that are refused, and those of
a method that nobody implements. The door bounds the first; a flood of the others, or of watchers
too many, gRPC refuses itself, in its own thread and in its own words. It counts all calls alike."""

HANDSHAKE_MAX_MS: Final = 10_000
"""gRPC would keep a connection that never finishes its handshake for two minutes."""

SETTLE_S: Final = 1.0
"""How long handlers have to return once every call of a stopped server is answered or cancelled."""


class ListenRefused(Exception):
    """A listener that must not or cannot be opened; `advice` says what to do."""

    def __init__(self, description: str, advice: str) -> None:
        super().__init__(f"{description}. {advice}")
        self.description = description
        self.advice = advice


class PortUnavailable(ListenRefused):
    """The address cannot be bound, most often because another process listens there."""


class RunningServer:
    """A bound listener; it holds its port from construction and answers from `start` on."""

    def __init__(
        self, name: str, server: grpc.Server, pool: CallPool, watch: ReadWatch, address: Address
    ) -> None:
        self.name = name
        self.address = address.text
        self.port = address.port
        self._server = server
        self._pool = pool
        self._watch = watch

    @property
    def in_flight(self) -> int:
        """Return the number of calls running or waiting for a thread."""
        return self._pool.in_flight

    @property
    def overloaded(self) -> int:
        """Return how many calls were refused because the pool was full."""
        return self._pool.overloaded

    def start(self) -> None:
        """Begin to answer."""
        self._watch.start()
        self._server.start()

    def stop(self, grace_s: float) -> bool:
        """Take no new calls, let those in flight finish for `grace_s`, then cancel the rest.

        Returns when every call has been answered or cancelled. The answer says whether all
        handlers have returned too: False means that a handler still runs, in a thread that an
        ordinary interpreter exit would wait for.
        """
        self._server.stop(grace_s).wait()
        # A call is answered a moment before its handler's thread is free again.
        drained = self._pool.wait_until_idle(SETTLE_S)
        self._watch.stop()
        self._pool.close()
        return drained


def build_server(
    *,
    name: str,
    address: str,
    credentials: grpc.ServerCredentials | None,
    policy: CallPolicy,
    services: Sequence[Register],
    bounds: Bounds | None = None,
    message_max_bytes: int = MESSAGE_MAX_BYTES,
    reflection: Sequence[str] = (),
) -> RunningServer:
    """Bind one listener and put its door in place; `reflection` names the services to describe.

    Raises:
        AddressRefused: the address is malformed, or not loopback and without credentials.
        ListenRefused: the policy and the credentials contradict each other.
        PortUnavailable: the address cannot be bound.
    """
    wanted = parse_address(address)
    if credentials is None:
        wanted.verify_loopback()
    _verify_policy(name, policy, secure=credentials is not None)
    bounds = bounds or Bounds()
    pool = CallPool(name, bounds)
    watch = ReadWatch(policy.monotonic_s, policy.read_max_s)
    server = grpc.server(
        pool,
        interceptors=[
            Door(
                build_interceptors(policy, pool, watch),
                pool,
                refuse_at_once(policy),
                policy.monotonic_s,
            )
        ],
        options=[
            ("grpc.so_reuseport", 0),
            (
                "grpc.max_concurrent_streams",
                max(STREAMS_MIN, STREAMS_PER_PLACE * bounds.max_in_flight),
            ),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MAX_MS),
            ("grpc.max_receive_message_length", message_max_bytes),
            ("grpc.max_send_message_length", message_max_bytes),
        ],
        maximum_concurrent_rpcs=bounds.max_in_flight + WATCHES_MAX + OTHERS_WAITING,
    )
    for register in services:
        register(server)
    if reflection:
        register_reflection(server, reflection)
    try:
        if credentials is None:
            port = server.add_insecure_port(wanted.text)
        else:
            port = server.add_secure_port(wanted.text, credentials)
    except RuntimeError:
        pool.close()
        raise PortUnavailable(
            f"the {name} listener cannot bind {wanted.text}",
            f"Stop the process that listens there (`ss -ltnp` shows it), or set another address: "
            f"listen.{name} in the settings.",
        ) from None
    return RunningServer(name, server, pool, watch, Address(wanted.host, port))


def _verify_policy(name: str, policy: CallPolicy, *, secure: bool) -> None:
    """Refuse the combinations that would let a caller in unasked."""
    if policy.access is None and secure:
        raise ListenRefused(
            f"the {name} listener has certificates and asks nobody who they are",
            "Give it an access policy.",
        )
    if policy.access is not None and secure == (policy.access.assumed_identity is not None):
        raise ListenRefused(
            f"the {name} listener must either verify certificates or assume one identity",
            "Give it credentials and no assumed identity, or the reverse on loopback.",
        )
