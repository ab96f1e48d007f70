"""What every call of one server is subject to, written down before the server is built.

Deliberately absent: a default answer to "who may call". A server that asks nobody says so by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from servicekit.serving.identity import Identity
from servicekit.serving.method_table import MethodTable, RolesOf, no_roles
from servicekit.serving.read_watch import READ_MAX_S
from servicekit.serving.status import StatusTable

CLIENT_UNAUTHENTICATED: Final = "CLIENT_UNAUTHENTICATED"
METHOD_NOT_PERMITTED: Final = "METHOD_NOT_PERMITTED"
DEADLINE_EXCEEDED: Final = "DEADLINE_EXCEEDED"
OVERLOADED: Final = "OVERLOADED"
INTERNAL: Final = "INTERNAL"

NO_ROOM: Final = "too many calls in flight; nothing was done"
"""What a caller is told, with OVERLOADED, for whom there is no place."""

REQUIRED_REASONS: Final = frozenset(
    {CLIENT_UNAUTHENTICATED, METHOD_NOT_PERMITTED, DEADLINE_EXCEEDED, OVERLOADED, INTERNAL}
)

DEADLINE_MAX_S: Final = 300.0
"""Longest any call is waited for, and what a client that sends no deadline gets (seconds)."""

METHOD_MAX_CHARS: Final = 256
"""Longest method name kept of a call: of an unknown method the caller chooses it."""

OnRefused = Callable[[Identity | None, str, str], None]


def record_nothing(_identity: Identity | None, _method: str, _reason: str) -> None:
    """Keep no record of refused callers beyond the access log."""


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Who is asked for what: the trust domain, the method table, and who hears of a refusal.

    `on_refused` is called in the handler's thread, before the caller is answered, with the
    identity (None when there is none), the full method and the reason. If it raises, the caller
    gets INTERNAL: a refusal that had to be recorded and was not is no ordinary refusal.
    `assumed_identity` stands in for certificates on an insecure loopback listener only. `now_us`
    is the wall time against which callers' certificates are judged, microseconds since 1970 in UTC.
    """

    trust_domain: str
    methods: MethodTable
    now_us: Callable[[], int]
    roles_of: RolesOf = no_roles
    on_refused: OnRefused = record_nothing
    assumed_identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """What every call of one server is subject to.

    `access` is None only on a server that asks nobody who they are, such as probes on loopback.
    `malformed_reason` is the reason given for a request that is not the declared message, and
    `read_max_s` how long an admitted caller may take to send it.
    """

    statuses: StatusTable
    access: AccessPolicy | None
    logger: FilteringBoundLogger
    monotonic_s: Callable[[], float]
    incident_id: Callable[[], str]
    deadline_max_s: float = DEADLINE_MAX_S
    malformed_reason: str = INTERNAL
    read_max_s: float = READ_MAX_S

    def __post_init__(self) -> None:
        """Refuse a status table that lacks a reason the door itself gives."""
        missing = (REQUIRED_REASONS | {self.malformed_reason}) - self.statuses.codes.keys()
        if missing:
            message = f"the status table lacks {', '.join(sorted(missing))}"
            raise ValueError(message)
