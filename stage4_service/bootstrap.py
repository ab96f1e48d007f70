"""Puts Stage-4 together: the one place that knows every part, and hands clock and names to them.

Deliberately absent: behavior. What is assembled here is described where it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from servicekit.clock import Clock
from servicekit.log import logger
from servicekit.serving.admission import Bounds
from servicekit.serving.channel import open_channel
from servicekit.serving.connection import Connection
from servicekit.serving.health import HealthBoard
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.policy import AccessPolicy, CallPolicy
from servicekit.serving.server import ListenRefused, RunningServer, build_server
from servicekit.serving.tls import channel_credentials, server_credentials
from servicekit.store.errors import StoreError
from stage4_service.errors import JournalUnavailable, Reason
from stage4_service.refusal_budget import RefusalBudget
from stage4_service.settings import STORE_FILE, Stage4Settings
from stage4_service.store.sqlite_journal import SqliteJournal
from stage4_service.wire.method_table import PLAN_SERVICE, plan_methods
from stage4_service.wire.plan_servicer import PlanServicer
from stage4_service.wire.refusals import Refusals
from stage4_service.wire.stage3_client import Stage3Client
from stage4_service.wire.status import STATUSES

OnSealed = Callable[[StoreError], None]


def tell_nobody(_error: StoreError) -> None:
    """Leave a sealed service as it is: it answers AUDIT_UNAVAILABLE until somebody stops it."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running Stage-4 answers, as `host:port`."""

    clients: str
    probes: str


class RunningStage4:
    """One assembled service. It holds its ports and its store from construction on."""

    def __init__(
        self,
        *,
        clients: RunningServer,
        probes: RunningServer,
        health: HealthBoard,
        journal: SqliteJournal,
        connection: Connection,
        refusals: Refusals,
    ) -> None:
        self.addresses = Addresses(clients.address, probes.address)
        self.journal = journal
        self._clients = clients
        self._probes = probes
        self._health = health
        self._connection = connection
        self._refusals = refusals

    def start(self) -> None:
        """Answer probes, then clients; ready once both do."""
        self._probes.start()
        self._clients.start()
        self._health.set_all_serving()

    def stop(self, grace_s: float) -> bool:
        """Drain: not ready, no new plans, `grace_s` for those under way, then close the log.

        Returns False when a handler still runs, or when what was refused could not be recorded.
        """
        self._health.close()
        drained = self._clients.stop(grace_s)
        self._connection.close()
        try:
            self._refusals.settle()
        except JournalUnavailable:
            drained = False
        self.journal.close()
        self._probes.stop(0)
        return drained


def init_store(settings: Stage4Settings, *, clock: Clock) -> None:
    """Create the state directory, mode 0700, and the empty store in it.

    Raises: StoreError.
    """
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    SqliteJournal.create(settings.state_dir / STORE_FILE, now_us=clock.now_us())


def build_stage4(
    settings: Stage4Settings,
    *,
    clock: Clock,
    ids: Callable[[], str],
    on_sealed: OnSealed = tell_nobody,
) -> RunningStage4:
    """Open the store, recover it, bind both listeners and start to connect to Stage-3.

    `ids` returns a fresh unique string at each call, safe to use in names. `on_sealed` hears once,
    from another thread, that the log takes no more records and the process should end.

    Raises: StoreError, CredentialRefused, ListenRefused, AddressRefused, ValueError; each says what
    to do.
    """
    now = datetime.fromtimestamp(clock.now_us() / 1_000_000, UTC)
    server_side, caller_side = _credentials(settings, now)
    server_name = settings.stage3.server_name or f"stage3.{settings.trust_domain}"
    health = HealthBoard([PLAN_SERVICE])

    def seal(error: StoreError) -> None:
        health.close()
        on_sealed(error)

    # Whatever is open is closed again, last first, if a later part cannot be made.
    with ExitStack() as undo:
        journal = SqliteJournal.open(
            settings.state_dir / STORE_FILE,
            clock=clock,
            commit_timeout_s=settings.commit_timeout_s,
            on_poison=seal,
        )
        undo.callback(journal.close)
        connection = Connection(open_channel(settings.stage3.address, caller_side, server_name))
        undo.callback(connection.close)
        refusals = Refusals(
            journal,
            RefusalBudget(
                burst=settings.refusals.burst,
                per_second=settings.refusals.per_second,
                monotonic_s=clock.monotonic_s,
            ),
        )
        servicer = PlanServicer(
            journal=journal,
            records=journal,
            stage3=Stage3Client(connection, connect_timeout_s=settings.stage3.connect_timeout_s),
            refusals=refusals,
            limits=settings.limits.as_plan_limits(),
            ids=ids,
        )
        probes = _probes_server(settings, health, clock, ids)
        undo.callback(probes.stop, 0)
        clients = _clients_server(settings, server_side, servicer, health, refusals, clock, ids)
        undo.pop_all()
    return RunningStage4(
        clients=clients,
        probes=probes,
        health=health,
        journal=journal,
        connection=connection,
        refusals=refusals,
    )


def _credentials(
    settings: Stage4Settings, now: datetime
) -> tuple[grpc.ServerCredentials | None, grpc.ChannelCredentials | None]:
    if settings.insecure_loopback:
        return None, None
    if settings.tls is None or settings.stage3.tls is None:
        raise ListenRefused(
            "the settings name no certificates",
            "Set `tls` and `stage3.tls`, or `insecure_loopback` for development on loopback.",
        )
    server = server_credentials(
        settings.tls.certificate_file,
        settings.tls.key_file,
        settings.tls.client_authority_file,
        now=now,
    )
    caller = channel_credentials(
        settings.stage3.tls.server_authority_file,
        settings.stage3.tls.certificate_file,
        settings.stage3.tls.key_file,
        now=now,
    )
    return server, caller


def _clients_server(
    settings: Stage4Settings,
    credentials: grpc.ServerCredentials | None,
    servicer: PlanServicer,
    health: HealthBoard,
    refusals: Refusals,
    clock: Clock,
    ids: Callable[[], str],
) -> RunningServer:
    assumed = None
    if credentials is None:
        uri = f"spiffe://{settings.trust_domain}/client/local"
        assumed = Identity(IdentityKind.CLIENT, "local", uri)
    policy = CallPolicy(
        statuses=STATUSES,
        access=AccessPolicy(
            trust_domain=settings.trust_domain,
            methods=plan_methods(reflection=settings.reflection),
            on_refused=refusals.record_refused_call,
            assumed_identity=assumed,
        ),
        logger=logger("stage4.clients"),
        monotonic_s=clock.monotonic_s,
        incident_id=ids,
        deadline_max_s=settings.plans.max_deadline_s,
        malformed_reason=Reason.REQUEST_INVALID,
    )
    return build_server(
        name="clients",
        address=settings.listen.clients,
        credentials=credentials,
        policy=policy,
        services=[servicer.register, health.register],
        bounds=Bounds(settings.plans.threads, settings.plans.max_in_flight),
        reflection=[PLAN_SERVICE] if settings.reflection else (),
    )


def _probes_server(
    settings: Stage4Settings, health: HealthBoard, clock: Clock, ids: Callable[[], str]
) -> RunningServer:
    policy = CallPolicy(
        statuses=STATUSES,
        access=None,
        logger=logger("stage4.probes"),
        monotonic_s=clock.monotonic_s,
        incident_id=ids,
    )
    return build_server(
        name="probes",
        address=settings.listen.probes,
        credentials=None,
        policy=policy,
        services=[health.register],
        bounds=Bounds(2, 16),
    )
