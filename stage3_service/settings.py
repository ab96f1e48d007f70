"""Every knob of Stage-3, with its unit and the reason for its default.

Deliberately absent: a switch that turns a gate, the log or a barrier off.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from servicekit.ijson import JsonLimits
from servicekit.setting_types import (
    CheckpointKeeping,
    ListenerBounds,
    LogLevel,
    Section,
    TrustDomain,
)
from stage3_service.plan.limits import PlanLimits

_PLAN: Final = PlanLimits()
_DOCUMENT: Final = _PLAN.document
# What the parser can hold on its stack.
_DEEPEST: Final = 100
_DAY_S: Final = 86_400

CONNECT_TIMEOUT_S = 2.0
"""As long as Stage-4 waits for Stage-3: a service that restarts is back by then."""


class Role(StrEnum):
    """Name what an operator may do."""

    ISSUER = "issuer"
    REVOKER = "revoker"
    AUDITOR = "auditor"
    HALTER = "halter"
    CURATOR = "curator"


class Listen(Section):
    """Addresses, as `host:port`; port 0 lets the system choose one."""

    plans: str = "127.0.0.1:7403"
    operators: str = "127.0.0.1:7404"
    # gRPC health without certificates, for probes; loopback only.
    probes: str = "127.0.0.1:7405"
    # Prometheus and plain HTTP probes, without certificates. Whoever names another address than
    # loopback opens it to that network. Empty: not served.
    metrics: str = "127.0.0.1:9403"


class Tls(Section):
    """Files of Stage-3's server certificate and of the authority of its callers."""

    certificate_file: Path
    key_file: Path
    client_authority_file: Path


class DomainClient(Section):
    """Files of the certificate that Stage-3 shows to domains, and how it connects to them."""

    # Identity spiffe://<trust domain>/stage3: what a domain recognises its one caller by.
    certificate_file: Path
    key_file: Path
    # Who issued the certificates of domain services.
    server_authority_file: Path
    # Seconds a step waits for a connection; without one it fails, and nothing was sent.
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = CONNECT_TIMEOUT_S


class Limits(Section):
    """Bounds of one plan, inclusive. Stage-4 has its own, and none of them is trusted here."""

    max_bytes: Annotated[int, Field(ge=1, le=1_048_576)] = _DOCUMENT.max_bytes
    max_depth: Annotated[int, Field(ge=1, le=_DEEPEST)] = _DOCUMENT.max_depth
    max_values: Annotated[int, Field(ge=1, le=100_000)] = _DOCUMENT.max_values
    max_key_bytes: Annotated[int, Field(ge=1)] = _DOCUMENT.max_key_bytes
    max_string_bytes: Annotated[int, Field(ge=1)] = _DOCUMENT.max_string_bytes
    max_steps: Annotated[int, Field(ge=1, le=1_000)] = _PLAN.max_steps
    max_bindings: Annotated[int, Field(ge=0, le=1_000)] = _PLAN.max_bindings

    def as_plan_limits(self) -> PlanLimits:
        """Return the limits in the form that the rooms take."""
        return PlanLimits(
            document=JsonLimits(
                max_bytes=self.max_bytes,
                max_depth=self.max_depth,
                max_values=self.max_values,
                max_key_bytes=self.max_key_bytes,
                max_string_bytes=self.max_string_bytes,
            ),
            max_steps=self.max_steps,
            max_bindings=self.max_bindings,
        )


class Tokens(Section):
    """Longest lives of tokens, in seconds."""

    max_lifetime_s: Annotated[int, Field(ge=1, le=86_400)] = 1_800
    # For a token bound to one plan and to its number of steps.
    max_bound_lifetime_s: Annotated[int, Field(ge=1, le=86_400)] = 86_400


class Denials(Section):
    """How many denials of one caller are recorded one by one."""

    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    per_second: Annotated[float, Field(ge=0, le=1_000)] = 0.5


class Stage3Settings(Section):
    """Configure one Stage-3 process."""

    # Holds the store `stage3.sqlite3` and the state of builtin domains; made by `stage3 init`.
    state_dir: Path
    trust_domain: TrustDomain
    # The keys that stored outcomes are encrypted with; made by `stage3 init`. Kept apart from
    # `state_dir`: whoever has both reads what plans were answered.
    outcome_key_file: Path
    listen: Listen = Listen()
    # Required unless `insecure_loopback` is set.
    tls: Tls | None = None
    # Serve without certificates, on loopback only, taking every caller of the plan listener for
    # Stage-4 and every caller of the operator listener for an operator with all roles.
    insecure_loopback: bool = False
    # Names of operator certificates and their roles.
    operators: dict[str, list[Role]] = Field(default_factory=dict)
    # Declared domains; absent: the builtin ones.
    domains_file: Path | None = None
    # Required as soon as a declared domain has `adapter = "grpc"`.
    domain_client: DomainClient | None = None
    plans: ListenerBounds = ListenerBounds()
    limits: Limits = Limits()
    tokens: Tokens = Tokens()
    # Seconds that an outcome is told again; then its request_id is spent for good.
    outcome_retention_s: Annotated[int, Field(ge=1, le=31_536_000)] = 172_800
    denials: Denials = Denials()
    # The log's checkpoint, kept outside the store.
    checkpoint: CheckpointKeeping = CheckpointKeeping()
    # Bytes of the store's disk held for what must be recorded when it is full: a few of the largest
    # results, or some ten thousand events.
    disk_reserve_bytes: Annotated[int, Field(ge=1_048_576, le=2**40)] = 67_108_864
    # Seconds until a commit that is not durable seals the service.
    commit_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    # Seconds that plans under way get to end when the service is told to stop; then no further step
    # is started, and the steps that run get as long again.
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    # Run on this core alone. Worth much where two cores carry both services and a client.
    cpu: int | None = None
    # Describe the services to tools; off where anybody but developers can connect.
    reflection: bool = False
    log_level: LogLevel = "info"

    @model_validator(mode="after")
    def _outcomes_outlive_their_tokens(self) -> Self:
        # Whoever still holds a token that works can learn what its plans came to, and for a day
        # after that so can a client that was away.
        longest = max(self.tokens.max_lifetime_s, self.tokens.max_bound_lifetime_s)
        if self.outcome_retention_s < _DAY_S + longest:
            raise ValueError(
                f"outcome_retention_s must be at least {_DAY_S + longest}: "
                "a day and the longest life of a token"
            )
        return self

    @property
    def origin(self) -> str:
        """Return the name of this service's log, in which its checkpoints are signed."""
        return f"{self.trust_domain}/stage3"


STORE_FILE = "stage3.sqlite3"
