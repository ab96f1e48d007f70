"""Turns one `adapter = "grpc"` table of a declarations file into a declaration.

Guards the promises that Stage-3 makes about a service that it did not write: each of its methods
states every limit, because there is no code here to take one from. Deliberately absent: asking the
service. What `Describe` answers is a claim of the domain; the file is the operator's decision.
"""

from __future__ import annotations

from servicekit.ijson import JsonValue
from servicekit.serving.address import DNS_NAME, AddressRefused, parse_address
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.declarations_reading import Reading
from stage3_service.domains.parse_method import parse_methods

GRPC_ADAPTER = "grpc"

_DOMAIN_KEYS = ("adapter", "endpoint", "server_name", "methods")


def parse_grpc_domain(
    reading: Reading, path: str, name: str, raw: JsonValue
) -> DomainDeclaration | None:
    """Return the domain that a table declares, or None with its problems noted in `reading`."""
    table = reading.table(path, raw, _DOMAIN_KEYS)
    missing = [key for key in _DOMAIN_KEYS if key not in table]
    if missing:
        reading.refuse(path, f"lacks {', '.join(missing)}")
        return None
    endpoint = _endpoint(reading, f"{path}.endpoint", table["endpoint"])
    server_name = table["server_name"]
    if not isinstance(server_name, str) or DNS_NAME.fullmatch(server_name) is None:
        reading.refuse(f"{path}.server_name", "must be the DNS name in the domain's certificate")
        server_name = None
    methods = parse_methods(reading, f"{path}.methods", table["methods"])
    if endpoint is None or server_name is None or not methods:
        return None
    return DomainDeclaration(name, GRPC_ADAPTER, endpoint, methods, server_name)


def _endpoint(reading: Reading, path: str, raw: JsonValue) -> str | None:
    try:
        address = parse_address(raw if isinstance(raw, str) else "")
    except AddressRefused:
        address = None
    if address is None or address.port == 0:
        reading.refuse(path, "must be the host:port at which the domain listens")
        return None
    return address.text
