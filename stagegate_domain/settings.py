"""Every knob of a domain service, with its unit and the reason for its default.

Deliberately absent: a list of callers. There is one, and its name follows from the trust domain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from servicekit.setting_types import LogLevel, Section, TrustDomain


class Tls(Section):
    """Files of the domain's server certificate and of the authority that issued Stage-3's."""

    # One DNS SAN: the `server_name` of the domain in Stage-3's domains file.
    certificate_file: Path
    key_file: Path
    client_authority_file: Path


class DomainSettings(Section):
    """Configure one domain process."""

    trust_domain: TrustDomain
    # Addresses, as `host:port`; port 0 lets the system choose one.
    listen: str = "127.0.0.1:7411"
    # gRPC health without certificates, for probes; loopback only.
    probes: str = "127.0.0.1:7412"
    # Required unless `insecure_loopback` is set.
    tls: Tls | None = None
    # Serve without certificates, on loopback only, taking every caller for Stage-3.
    insecure_loopback: bool = False
    # Calls that run side by side; the next as many wait, further ones are refused.
    threads: Annotated[int, Field(ge=1, le=512)] = 8
    # Seconds that calls under way get to end when the service is told to stop.
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    log_level: LogLevel = "info"
