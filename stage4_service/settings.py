"""Every knob of Stage-4, with its unit and the reason for its default.

Deliberately absent: a switch that turns validation, the log or a barrier off, and any retry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from servicekit.setting_types import (
    CheckpointKeeping,
    ListenerBounds,
    LogLevel,
    Section,
    TrustDomain,
)
from stage4_service.limits import PlanLimits

_DEFAULTS: Final = PlanLimits()
# What the parser can hold on its stack.
_DEEPEST: Final = 100
_TWO_DAYS_S: Final = 172_800


class Listen(Section):
    """Addresses, as `host:port`; port 0 lets the system choose one."""

    clients: str = "127.0.0.1:7401"
    # gRPC health without certificates, for probes; loopback only.
    probes: str = "127.0.0.1:7402"
    # Prometheus and plain HTTP probes, without certificates. Whoever names another address than
    # loopback opens it to that network. Empty: not served.
    metrics: str = "127.0.0.1:9404"


class Tls(Section):
    """Files of Stage-4's server certificate and of the authority of its callers."""

    certificate_file: Path
    key_file: Path
    client_authority_file: Path


class Stage3CallerTls(Section):
    """Files of Stage-4's caller certificate and of the authority of Stage-3's server."""

    certificate_file: Path
    key_file: Path
    server_authority_file: Path


class Stage3(Section):
    """Where Stage-3 is, and as whom it is called."""

    address: str = "127.0.0.1:7403"
    # The one DNS SAN of Stage-3's server certificate; empty: `stage3.<trust_domain>`.
    server_name: str = ""
    # Required unless `insecure_loopback` is set.
    tls: Stage3CallerTls | None = None
    # Seconds to wait for a connection before a plan is refused, with nothing sent.
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0


class ClientBounds(ListenerBounds):
    """Bounds of the listener that clients share."""

    # Of `max_in_flight`, for one client, whatever its connections. Below `threads`, here and at
    # Stage-3: however slow a client's plans are, another's run at once. Unset: four fifths of
    # `threads`.
    max_in_flight_per_caller: Annotated[int, Field(ge=1, le=4096)] | None = None

    @property
    def share(self) -> int:
        """Return how many calls one client may have in flight."""
        chosen = self.max_in_flight_per_caller
        return max(1, self.threads * 4 // 5) if chosen is None else chosen

    @model_validator(mode="after")
    def _a_share_can_be_taken(self) -> Self:
        if self.share > self.max_in_flight:
            raise ValueError("max_in_flight_per_caller must be at most max_in_flight")
        return self


class Limits(Section):
    """Bounds of one plan document, inclusive; Stage-3 has its own and trusts nothing of these."""

    max_bytes: Annotated[int, Field(ge=1, le=1_048_576)] = _DEFAULTS.max_bytes
    max_depth: Annotated[int, Field(ge=1, le=_DEEPEST)] = _DEFAULTS.max_depth
    max_values: Annotated[int, Field(ge=1, le=100_000)] = _DEFAULTS.max_values
    max_key_bytes: Annotated[int, Field(ge=1)] = _DEFAULTS.max_key_bytes
    max_string_bytes: Annotated[int, Field(ge=1)] = _DEFAULTS.max_string_bytes
    max_steps: Annotated[int, Field(ge=1, le=1_000)] = _DEFAULTS.max_steps
    max_bindings: Annotated[int, Field(ge=0, le=1_000)] = _DEFAULTS.max_bindings

    def as_plan_limits(self) -> PlanLimits:
        """Return the limits in the form that the rooms take."""
        return PlanLimits(**self.model_dump())


class Refusals(Section):
    """How many refusals of one caller are recorded one by one, and how fast that comes back."""

    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    per_second: Annotated[float, Field(ge=0, le=1_000)] = 0.5


class Stage4Settings(Section):
    """Configure one Stage-4 process."""

    # Holds the store `stage4.sqlite3`; made by `stage4 init`.
    state_dir: Path
    trust_domain: TrustDomain
    # The keys that stored results are encrypted with; made by `stage4 init`. Kept apart from
    # `state_dir`: whoever has both reads what plans came to.
    outcome_key_file: Path
    listen: Listen = Listen()
    # Required unless `insecure_loopback` is set.
    tls: Tls | None = None
    # Serve and call without certificates, on loopback only, taking every caller for one client.
    insecure_loopback: bool = False
    stage3: Stage3 = Stage3()
    plans: ClientBounds = ClientBounds()
    limits: Limits = Limits()
    refusals: Refusals = Refusals()
    # The log's checkpoint, kept outside the store.
    checkpoint: CheckpointKeeping = CheckpointKeeping()
    # Bytes of the store's disk held for what must be recorded when it is full: a few of the largest
    # results, or some ten thousand events.
    disk_reserve_bytes: Annotated[int, Field(ge=1_048_576, le=2**40)] = 67_108_864
    # Seconds that a result is told again. At least as long as Stage-3's own default: a day, and the
    # longest life that a token can have, which Stage-4 does not know.
    outcome_retention_s: Annotated[int, Field(ge=_TWO_DAYS_S, le=31_536_000)] = _TWO_DAYS_S
    # Seconds until a commit that is not durable seals the service.
    commit_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    # Seconds that plans under way get to end when the service is told to stop.
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    # Run on this core alone. Worth much where two cores carry both services and a client.
    cpu: int | None = None
    # Describe the services to tools; off where anybody but developers can connect.
    reflection: bool = False
    log_level: LogLevel = "info"

    @property
    def origin(self) -> str:
        """Return the name of this service's log, in which its checkpoints are signed."""
        return f"{self.trust_domain}/stage4"


STORE_FILE: Final = "stage4.sqlite3"
