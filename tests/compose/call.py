"""Call gRPC methods with a certificate past every check of the product; handed to `python -c`.

`DIRECTORY NAME ADDRESS SERVER METHOD...`: presents NAME.crt with NAME.key, trusts ca.crt, and sends
each method an empty message. One line of JSON says for each the status code and, where there is
one, the reason in the rich error.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import grpc


def call(channel: grpc.Channel, method: str) -> list[str]:
    """Return code and reason of one call."""
    stub: Any = channel.unary_unary(method)
    try:
        stub(b"", timeout=5)
    except grpc.RpcError as error:
        metadata: Any = error.trailing_metadata() or ()
        details = dict(metadata).get("grpc-status-details-bin", b"")
        reason = re.search(rb"ErrorInfo.{0,8}?\n.([A-Z][A-Z0-9_]+)", details, re.DOTALL)
        return [error.code().name, reason[1].decode() if reason else ""]
    return ["OK", ""]


directory, name, address, server, *methods = sys.argv[1:]
held = Path(directory)
credentials = grpc.ssl_channel_credentials(
    (held / "ca.crt").read_bytes(),
    (held / f"{name}.key").read_bytes(),
    (held / f"{name}.crt").read_bytes(),
)
options = [("grpc.ssl_target_name_override", server), ("grpc.enable_http_proxy", 0)]
with grpc.secure_channel(address, credentials, options=options) as opened:
    sys.stdout.write(json.dumps({method: call(opened, method) for method in methods}))
