"""A channel that is ready before a command says anything on it, or a sentence why it is not.

A call that fails on a channel that was never ready has reached nobody: a command that has effects
must be able to tell that from an answer that was lost. Deliberately absent: retries.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

import grpc

from servicekit.cli.failure import CommandFailed, refusal_of_service
from servicekit.process import ExitCode
from servicekit.serving.address import parse_address
from servicekit.serving.channel import open_channel
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.tls import channel_credentials

if TYPE_CHECKING:
    from servicekit.cli.profile import Profile
    from servicekit.serving.client_errors import ClientError

CONNECT_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 15.0
"""How long an operator waits for an answer that touches at most the service's own disk."""

_PERMITTED_ADVICE: Final = "Use the profile of a caller who may, or ask for the role it takes."


@contextmanager
def connected(profile: Profile, *, service: str, now: datetime) -> Iterator[grpc.Channel]:
    """Open a channel, wait until it is ready, close it in the end.

    Raises:
        CredentialRefused, AddressRefused: the profile cannot be used.
        CommandFailed: UNREACHABLE, nothing was sent.
    """
    credentials = channel_credentials(
        profile.authority_file, profile.certificate_file, profile.key_file, now=now
    )
    channel = open_channel(profile.address, credentials, profile.server_name)
    try:
        _await_ready(channel, profile, service)
        yield channel
    finally:
        channel.close()


@contextmanager
def reading_refusals(service: str, profile: Profile | None = None) -> Iterator[None]:
    """Turn the failed call of an ordinary command into a failure of the command.

    With the `profile`, a caller who may not is told as whom it was called.

    Raises:
        CommandFailed: the service's reason, or UNREACHABLE when no service answered.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise describe_refusal(decode_rpc_error(error), service, profile) from None


def describe_refusal(
    error: ClientError, service: str, profile: Profile | None = None
) -> CommandFailed:
    """Return the failure that an error of an ordinary call means."""
    if not error.reason:
        return CommandFailed(
            ExitCode.UNAVAILABLE,
            "UNREACHABLE",
            f"{service} did not answer ({error.code})",
            "Look at its log, and ask again: this command may be repeated.",
        )
    advice = ""
    if error.reason == "METHOD_NOT_PERMITTED":
        called_as = "" if profile is None else f"You called with {profile.certificate_file}. "
        advice = called_as + _PERMITTED_ADVICE
    return refusal_of_service(error, advice=advice, facts={})


def _await_ready(channel: grpc.Channel, profile: Profile, service: str) -> None:
    states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
    channel.subscribe(states.put, try_to_connect=True)
    try:
        while (state := states.get(timeout=CONNECT_TIMEOUT_S)) is not (
            grpc.ChannelConnectivity.READY
        ):
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise _unreachable(profile, service)
    except Empty:
        raise _unreachable(profile, service) from None
    finally:
        channel.unsubscribe(states.put)


def _unreachable(profile: Profile, service: str) -> CommandFailed:
    address = parse_address(profile.address)
    try:
        socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S).close()
    except OSError:
        message = f"nothing listens at {address.text}; nothing was sent"
        advice = f"Start it with `{service} serve`, or correct the address in the profile."
    else:
        message = f"{address.text} does not take this certificate, or is not {profile.server_name}"
        advice = (
            "Check that the profile and the service use certificates of one authority, and that "
            "the address is that of the right listener."
        )
    return CommandFailed(ExitCode.UNAVAILABLE, "UNREACHABLE", message, advice)
