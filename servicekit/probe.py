"""`python -m servicekit.probe HOST:PORT [SERVICE]`: ask a service on this machine if it serves.

For containers without a shell: whatever runs the container runs this in it. The answer is the exit
code: 0 serving, 1 answered and not serving, 69 nobody answers, 64 the command line makes no sense.

Deliberately absent: certificates. Probes listeners have none, so only loopback is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

ANSWER_TIMEOUT_S: Final = 2.0
"""A probe that waits longer than its caller says nothing."""

SERVING: Final = 0
NOT_SERVING: Final = 1
USAGE: Final = 64
UNREACHABLE: Final = 69


def probe(address: str, service: str = "", *, timeout_s: float = ANSWER_TIMEOUT_S) -> int:
    """Return the exit code that says what the listener at `address` answers about `service`.

    Raises:
        AddressRefused: the address is malformed or not loopback.
    """
    import grpc  # noqa: PLC0415 - a wrong command line is answered without loading gRPC
    from grpc_health.v1 import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above; ships no types
        health_pb2,
        health_pb2_grpc,
    )

    from servicekit.serving.channel import open_channel  # noqa: PLC0415 - as above

    with open_channel(address, None, "") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError:
            return UNREACHABLE
    return SERVING if answer.status == health_pb2.HealthCheckResponse.SERVING else NOT_SERVING


def main(arguments: Sequence[str]) -> int:
    """Probe what the arguments name; return the exit code."""
    from servicekit.serving.address import (  # noqa: PLC0415 - as in probe
        AddressRefused,
    )

    if len(arguments) not in {1, 2}:
        sys.stderr.write("usage: python -m servicekit.probe HOST:PORT [SERVICE]\n")
        return USAGE
    try:
        return probe(*arguments)
    except AddressRefused as refused:
        sys.stderr.write(f"{refused}\n")
        return USAGE


if __name__ == "__main__":
    # Nothing is left to clean up, and an interpreter that ends in order takes as long as the probe.
    os._exit(main(sys.argv[1:]))
