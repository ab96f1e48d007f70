"""The one way to open a channel: pinned name, one attempt per call, no detour.

Deliberately absent: retries (a call that may have had an effect is never sent twice), proxies, and
service configuration from DNS, which could switch retries back on.
"""

from typing import Final

import grpc

from servicekit.serving.address import parse_address

MESSAGE_MAX_BYTES: Final = 16 * 1024 * 1024
"""Largest message either side accepts, in bytes."""

RECONNECT_FIRST_MS: Final = 100
RECONNECT_MAX_MS: Final = 2_000
CONNECT_TIMEOUT_MS: Final = 2_000
"""gRPC would wait up to two minutes between attempts: a service that came back would be reported
unreachable all that time. These bound how long a channel stays behind the truth."""

KEEPALIVE_MS: Final = 300_000
UNACKNOWLEDGED_MAX_MS: Final = 10_000
"""After a network cut that nobody announces, a sent call would wait for TCP to give up, a quarter
of an hour, and every later call with it. The second figure becomes the connection's
TCP_USER_TIMEOUT: bytes unacknowledged for so long end it. gRPC sets it only beside a keepalive,
whose own pings are as rare as any server tolerates unasked."""


def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    server_name: str,
    *,
    message_max_bytes: int = MESSAGE_MAX_BYTES,
    receive_max_bytes: int | None = None,
) -> grpc.Channel:
    """Open a channel to `address` that talks only to a server certified as `server_name`.

    `server_name` is the one DNS SAN of the server's certificate, whatever the address says: a
    client cannot read a server's URI SAN, so the name is what is pinned. Without credentials the
    address must be loopback. `receive_max_bytes` bounds what is taken in more narrowly than what
    is sent.

    Raises:
        AddressRefused: the address is malformed, or not loopback and without credentials.
    """
    target = parse_address(address)
    options: list[tuple[str, str | int]] = [
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", receive_max_bytes or message_max_bytes),
        ("grpc.max_send_message_length", message_max_bytes),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", UNACKNOWLEDGED_MAX_MS),
    ]
    if credentials is None:
        target.verify_loopback()
        return grpc.insecure_channel(address, options=options)
    options.append(("grpc.ssl_target_name_override", server_name))
    return grpc.secure_channel(address, credentials, options=options)
