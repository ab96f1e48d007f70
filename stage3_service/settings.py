"""Every knob of Stage-3, with its unit and the reason for its default.

Deliberately absent: a switch that turns a gate, the log or a barrier off.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Role(StrEnum):
    """Name what an operator may do."""

    ISSUER = "issuer"
    REVOKER = "revoker"
    AUDITOR = "auditor"
    HALTER = "halter"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(_Section):
    """Addresses, as `host:port`; port 0 lets the system choose one."""

    plans: str = "127.0.0.1:7403"
    operators: str = "127.0.0.1:7404"
    # gRPC health without certificates, for probes; loopback only.
    probes: str = "127.0.0.1:7405"


class Tls(_Section):
    """Files of Stage-3's server certificate and of the authority of its callers."""

    certificate_file: Path
    key_file: Path
    client_authority_file: Path


class Plans(_Section):
    """Bounds of the plan listener."""

    # A thread waits for the disk or a domain most of its time; 32 of them keep one core busy.
    threads: Annotated[int, Field(ge=1, le=512)] = 32
    # Twice the threads: a short wait is cheaper than a refusal, a long one is not.
    max_in_flight: Annotated[int, Field(ge=1, le=4096)] = 64
    # Longest a call is served, and what a client without a deadline gets, in seconds.
    max_deadline_s: Annotated[float, Field(gt=0, le=3600)] = 300.0


class Tokens(_Section):
    """Longest lives of tokens, in seconds."""

    max_lifetime_s: Annotated[int, Field(ge=1, le=86_400)] = 1_800
    # For a token bound to one plan and to its number of steps.
    max_bound_lifetime_s: Annotated[int, Field(ge=1, le=604_800)] = 86_400


class Denials(_Section):
    """How many denials of one caller are recorded one by one."""

    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    per_second: Annotated[float, Field(ge=0, le=1_000)] = 0.5


class Stage3Settings(_Section):
    """Configure one Stage-3 process."""

    # Holds the store `stage3.sqlite3` and the state of builtin domains; made by `stage3 init`.
    state_dir: Path
    trust_domain: str
    listen: Listen = Listen()
    # Required unless `insecure_loopback` is set.
    tls: Tls | None = None
    # Serve without certificates, on loopback only, taking every caller of the plan listener for
    # Stage-4 and every caller of the operator listener for an operator with all roles.
    insecure_loopback: bool = False
    # Names of operator certificates and their roles.
    operators: dict[str, list[Role]] = {}
    # Declared domains; absent: the builtin ones.
    domains_file: Path | None = None
    plans: Plans = Plans()
    tokens: Tokens = Tokens()
    denials: Denials = Denials()
    # Seconds until a commit that is not durable seals the service.
    commit_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    # Seconds that plans under way get to end when the service is told to stop; then no further step
    # is started, and the steps that run get as long again.
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    # Run on this core alone. Worth much where two cores carry both services and a client.
    cpu: int | None = None
    # Describe the services to tools; off where anybody but developers can connect.
    reflection: bool = False
    log_level: str = "info"


STORE_FILE = "stage3.sqlite3"
