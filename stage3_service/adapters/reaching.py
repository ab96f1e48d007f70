"""What Stage-3 reaches domains elsewhere with, and whether it can reach all that a file declares.

Guards the start: a domain that needs a certificate of Stage-3's is not declared where there is
none. Deliberately absent: connecting. A domain that is down does not keep the service from serving.
"""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from servicekit.clock import Clock
from servicekit.serving.rotation import Rotation
from servicekit.serving.tls import CredentialFiles, read_caller_credential
from stage3_service.adapters.declarations_file import read_declared
from stage3_service.domains.declaration import Catalogue
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.parse_grpc_domain import GRPC_ADAPTER
from stage3_service.settings import CONNECT_TIMEOUT_S, Stage3Settings


def client_certificate(
    settings: Stage3Settings, clock: Clock, log: FilteringBoundLogger
) -> Rotation | None:
    """Return what Stage-3 shows to domains elsewhere, where the settings name it.

    Raises:
        CredentialRefused: a file cannot be used.

    """
    client = settings.domain_client
    if client is None:
        return None
    files = CredentialFiles(client.certificate_file, client.key_file, client.server_authority_file)
    return Rotation(files, read_caller_credential, clock=clock, log=log)


def connect_timeout_s(settings: Stage3Settings) -> float:
    """Return how many seconds a call waits for a connection to its domain."""
    client = settings.domain_client
    return CONNECT_TIMEOUT_S if client is None else client.connect_timeout_s


def read_reachable(settings: Stage3Settings) -> tuple[Catalogue, str]:
    """Return what the domains file declares, if all of it can be reached, and its SHA-256.

    Raises:
        DeclarationsRefused: with every problem of the file.

    """
    catalogue, digest = read_declared(settings.domains_file)
    if settings.domain_client is None and not settings.insecure_loopback:
        problems = [
            f"domains.{domain.name}.adapter: grpc needs the setting [domain_client], the "
            "certificate that Stage-3 shows to domains"
            for domain in catalogue
            if domain.adapter == GRPC_ADAPTER
        ]
        if problems:
            raise DeclarationsRefused(problems)
    return catalogue, digest
