"""A domain over gRPC for `bench.adapters`: the service, and its direct caller.

`python -m bench.far_domain serve --config FILE` serves it, as any domain service is served.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from stagegate.domain.v1.domain_service_pb2 import InvokeRequest, InvokeResponse

from bench.work import WrongAnswerError
from examples.local_pair import LocalPair
from servicekit.serving.channel import open_channel
from servicekit.serving.tls import channel_credentials
from stagegate_domain import Call, DomainService, run

NAME: Final = "far.dev.test"
INVOKE: Final = "/stagegate.domain.v1.DomainService/Invoke"
TIMEOUT_S: Final = 30.0

far = DomainService("far")


@far.method(
    description="Writes a text in capitals.",
    max_duration_s=30,
    max_response_bytes=4096,
    repetition="idempotent",
    parameters_schema={"type": "object", "required": ["text"]},
)
def upper(call: Call) -> dict[str, Any]:
    """Answer the text in capitals."""
    return {"text": str(call.parameters["text"]).upper()}


def declared(address: str) -> dict[str, Any]:
    """Return the table that declares the service at an address."""
    limits = {"max_duration_s": 30, "max_response_bytes": 4096, "repetition": "idempotent"}
    method = {"description": "Writes a text in capitals.", **limits}
    return {
        "adapter": "grpc",
        "endpoint": address,
        "server_name": NAME,
        "methods": {"upper": method},
    }


def free_address() -> str:
    """Return an address where nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def running_far_domain(pair: LocalPair, address: str) -> Iterator[None]:
    """Serve the domain with a certificate of the pair's authority, and end it afterwards."""
    pair.run("stage3", "certs", "server", pair.certificates, "far", "--dns", NAME)
    certificates = pair.certificates
    settings = pair.directory / "far.toml"
    settings.write_text(
        'log_level = "warning"\n'
        f'trust_domain = "dev.test"\nlisten = "{address}"\nprobes = "{free_address()}"\n[tls]\n'
        f'certificate_file = "{certificates / "far.crt"}"\n'
        f'key_file = "{certificates / "far.key"}"\n'
        f'client_authority_file = "{certificates / "ca.crt"}"\n'
    )
    command = [sys.executable, "-m", "bench.far_domain", "serve", "--config", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        if service.stdout is None or " is ready: " not in service.stdout.readline():
            raise RuntimeError("the domain service did not start")
        try:
            yield
        finally:
            service.terminate()


def call_directly(
    certificates: Path, address: str, seconds: float, pause_s: float = 0.0
) -> list[float]:
    """Call the method in a closed loop over one connection, as Stage-3; return what each took."""
    names = ("ca.crt", "stage3-caller.crt", "stage3-caller.key")
    authority, certificate, key = (certificates / name for name in names)
    credentials = channel_credentials(authority, certificate, key, now=datetime.now(UTC))
    took: list[float] = []
    with open_channel(address, credentials, NAME) as channel:
        call = channel.unary_unary(
            INVOKE,
            request_serializer=InvokeRequest.SerializeToString,
            response_deserializer=InvokeResponse.FromString,
        )
        last = time.perf_counter() + seconds
        while (began := time.perf_counter()) < last:
            text = f"label-{len(took)}"
            parameters = json.dumps({"text": text}).encode()
            key_text = f"bench/{len(took)}"
            answer = call(
                InvokeRequest(method="upper", parameters_json=parameters, idempotency_key=key_text),
                timeout=TIMEOUT_S,
            )
            took.append(time.perf_counter() - began)
            if json.loads(answer.output_json) != {"text": text.upper()}:
                raise WrongAnswerError("the domain answered something else")
            time.sleep(pause_s)
    return took


if __name__ == "__main__":
    run(far)
