"""The control: what an unprotected gRPC server is, with certificates and nothing else.

`python -m tests.adversarial.careless_server CERTIFICATES` serves an echo with a pool of eight
threads, no bound on a message, on metadata, on calls or on time. It answers a request of the audit
list with a megabyte, as a list without pages would.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from servicekit.serving.tls import server_credentials

SERVICE: Final = "careless.v1.Careless"
ECHO: Final = f"/{SERVICE}/Echo"
LIST: Final = f"/{SERVICE}/List"
THREADS: Final = 8


def main() -> None:
    """Serve until the input ends."""
    certificates = Path(sys.argv[1])
    server = grpc.server(
        ThreadPoolExecutor(THREADS),
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_metadata_size", 2**26),
            ("grpc.absolute_max_metadata_size", 2**26),
        ],
    )
    server.add_registered_method_handlers(
        SERVICE,
        {
            "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _context: request[:64]),
            "List": grpc.unary_unary_rpc_method_handler(lambda _request, _context: bytes(2**20)),
        },
    )
    credentials = server_credentials(
        certificates / "stage4-server.crt",
        certificates / "stage4-server.key",
        certificates / "ca.crt",
        now=datetime.now(UTC),
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - a line that its parent waits for
    sys.stdin.read()
    server.stop(0).wait()


if __name__ == "__main__":
    main()
