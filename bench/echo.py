"""The baseline: bytes through two hops of synchronous grpcio and back, and nothing else.

Client, relay and echo are three processes, with a pool of 32 threads each where they serve. What
this costs, the transport costs; whatever ours costs more is what evidence and authority cost.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from bench.load import CALL_TIMEOUT_S, Call, LoadClient, Target, load_client
from bench.processes import running, two_cpus
from bench.work import ECHO_METHOD, plan_sized_echo
from servicekit.certificates import create_authority, issue_caller, issue_server
from servicekit.serving.channel import open_channel
from servicekit.serving.tls import channel_credentials, server_credentials

POOL_SIZE: Final = 32
TRUST_DOMAIN: Final = "bench.example.org"
ECHO_NAME: Final = "echo.bench.example.org"
RELAY_NAME: Final = "relay.bench.example.org"

Handler = Callable[[bytes, grpc.ServicerContext], bytes]


@dataclass(frozen=True, slots=True)
class Variant:
    """How a baseline runs."""

    pinned: bool
    encrypted: bool

    @property
    def name(self) -> str:
        """Say it in a table's words."""
        return f"{'mTLS' if self.encrypted else 'plain'}, {'pinned' if self.pinned else 'free'}"


def make_certificates(directory: Path) -> None:
    """Make an authority, both servers' certificates and both callers'."""
    now = datetime.now(UTC)
    create_authority(directory, TRUST_DOMAIN, now)
    issue_server(directory, "echo", ECHO_NAME, now)
    issue_server(directory, "relay", RELAY_NAME, now)
    issue_caller(directory, "relay-caller", f"spiffe://{TRUST_DOMAIN}/stage4", now)
    issue_caller(directory, "client", f"spiffe://{TRUST_DOMAIN}/client/bench", now)


@contextmanager
def running_echo(certificates: Path, variant: Variant) -> Iterator[LoadClient]:
    """Start relay, echo and client, and give the client."""
    outer, inner = two_cpus()
    common = ["--certificates", str(certificates)] if variant.encrypted else []
    with running("bench.echo", ["echo", *common, *_on(variant, inner)]) as echo:
        relay_arguments = ["relay", "--echo", echo.read_line(), *common, *_on(variant, outer)]
        with running("bench.echo", relay_arguments) as relay:
            files = tuple(
                str(certificates / name) for name in ("ca.crt", "client.crt", "client.key")
            )
            target = Target(
                address=relay.read_line(),
                server_name=RELAY_NAME,
                files=(files[0], files[1], files[2]) if variant.encrypted else None,
                work=plan_sized_echo(),
            )
            with load_client(target) as client:
                yield client


def _on(variant: Variant, cpu: int) -> list[str]:
    return ["--cpu", str(cpu)] if variant.pinned else []


def _echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    return request


def _serve(handler: Handler, name: str, certificates: Path | None) -> None:
    server = grpc.server(
        ThreadPoolExecutor(POOL_SIZE),
        options=[("grpc.so_reuseport", 0)],
        handlers=[
            grpc.method_handlers_generic_handler(
                ECHO_METHOD.split("/")[1],
                {ECHO_METHOD.split("/")[2]: grpc.unary_unary_rpc_method_handler(handler)},
            )
        ],
    )
    if certificates is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        own = (certificates / f"{name}.crt", certificates / f"{name}.key")
        credentials = server_credentials(*own, certificates / "ca.crt", now=datetime.now(UTC))
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(None).wait()


def main() -> None:
    """Serve one of the two until the input ends."""
    parser = argparse.ArgumentParser(prog="bench.echo")
    parser.add_argument("role", choices=["echo", "relay"])
    parser.add_argument("--echo", default="")
    parser.add_argument("--certificates", type=Path)
    parser.add_argument("--cpu", type=int)
    chosen = parser.parse_args()
    certificates: Path | None = chosen.certificates
    if chosen.cpu is not None:
        os.sched_setaffinity(0, {chosen.cpu})
    if chosen.role == "echo":
        _serve(_echo, "echo", certificates)
        return
    credentials = certificates and channel_credentials(
        certificates / "ca.crt",
        certificates / "relay-caller.crt",
        certificates / "relay-caller.key",
        now=datetime.now(UTC),
    )
    with open_channel(chosen.echo, credentials or None, ECHO_NAME) as channel:
        forward: Call = channel.unary_unary(ECHO_METHOD)

        def relay(request: bytes, _context: grpc.ServicerContext) -> bytes:
            return forward(request, timeout=CALL_TIMEOUT_S)

        _serve(relay, "relay", certificates)


if __name__ == "__main__":
    main()
