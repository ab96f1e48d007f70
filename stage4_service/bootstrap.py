"""Puts Stage-4 together: the one place that knows every part, and hands clock and names to them.

Deliberately absent: behavior. What is assembled here is described where it lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from servicekit.clock import Clock
from servicekit.computing import AT_ONCE
from servicekit.log import logger
from servicekit.release import installed_version
from servicekit.service_metrics import common_metrics, serve_metrics
from servicekit.serving.admission import Bounds
from servicekit.serving.channel import open_channel
from servicekit.serving.connection import Connections
from servicekit.serving.health import HealthBoard
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.policy import AccessPolicy, CallPolicy
from servicekit.serving.rotating_connection import keep_connected
from servicekit.serving.rotation import Rotation, rotating_server_credentials
from servicekit.serving.scrape_listener import ScrapeListener
from servicekit.serving.server import ListenRefused, RunningServer, build_server
from servicekit.serving.tls import (
    CredentialFiles,
    read_caller_credential,
    read_server_credential,
)
from servicekit.store.checkpoint_copier import CheckpointCopier
from servicekit.store.checkpoint_file import CheckpointFile
from servicekit.store.errors import StoreError
from servicekit.store.key_ring_file import ensure_key_ring, read_key_ring
from servicekit.store.vouched import create_checkpoint, open_checkpoint
from stage4_service.errors import JournalUnavailable, Reason
from stage4_service.metrics import Sources, halt_reasons, stage4_metrics
from stage4_service.refusal_budget import RefusalBudget
from stage4_service.settings import STORE_FILE, Stage4Settings
from stage4_service.store.results import Results
from stage4_service.store.sqlite_journal import SqliteJournal
from stage4_service.store.vouching import CheckpointVouching
from stage4_service.wire.method_table import PLAN_SERVICE, plan_methods
from stage4_service.wire.plan_servicer import PlanServicer
from stage4_service.wire.plan_tally import PlanTally
from stage4_service.wire.refusals import Refusals
from stage4_service.wire.stage3_client import Stage3Client
from stage4_service.wire.status import STATUSES

OnSealed = Callable[[StoreError], None]


def tell_nobody(_error: StoreError) -> None:
    """Leave a sealed service as it is: it answers AUDIT_UNAVAILABLE until somebody stops it."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running Stage-4 answers, as `host:port`; `metrics` is empty if it is off."""

    clients: str
    probes: str
    metrics: str = ""


class RunningStage4:
    """One assembled service. It holds its ports and its store from construction on.

    `certificates` are those in use, by what they are for: `server` and `stage3_client`. None are
    there on an insecure loopback.
    """

    def __init__(
        self,
        *,
        clients: RunningServer,
        probes: RunningServer,
        health: HealthBoard,
        journal: SqliteJournal,
        connections: Connections,
        refusals: Refusals,
        certificates: Mapping[str, Rotation],
        metrics: ScrapeListener | None,
    ) -> None:
        self.addresses = Addresses(
            clients.address, probes.address, "" if metrics is None else metrics.address
        )
        self._metrics = metrics
        self.journal = journal
        self.certificates = certificates
        self._clients = clients
        self._probes = probes
        self._health = health
        self._connections = connections
        self._refusals = refusals

    def start(self) -> None:
        """Answer probes, then clients; ready once both do."""
        if self._metrics is not None:
            self._metrics.start()
        self._probes.start()
        self._clients.start()
        self._health.set_all_serving()

    def stop(self, grace_s: float) -> bool:
        """Drain: not ready, no new plans, `grace_s` for those under way, then close the log.

        Returns False when a handler still runs, or when what was refused could not be recorded.
        """
        self._health.close()
        drained = self._clients.stop(grace_s)
        self._connections.close()
        try:
            self._refusals.settle()
        except JournalUnavailable:
            drained = False
        self.journal.close()
        self._probes.stop(0)
        if self._metrics is not None:
            self._metrics.stop()
        return drained


def init_store(
    settings: Stage4Settings, *, clock: Clock, entropy: Callable[[int], bytes] = os.urandom
) -> tuple[Path, ...]:
    """Create the state directory, mode 0700, the empty store in it, and what vouches for it.

    A new store gets a new key ring, unless one was put there before. Return what was made: nothing
    where there is a store. Beside it neither ring nor log key is made anew: another ring would open
    nothing, and another key vouch for nothing.

    Raises:
        StoreError: the store cannot be created, or a ring or a log key that is there cannot be
            used, or one is gone.
    """
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = settings.state_dir / STORE_FILE
    if os.path.lexists(store):
        read_key_ring(settings.outcome_key_file, entropy)
        checkpoint_of(settings)
        return ()
    keys = ensure_key_ring(settings.outcome_key_file, entropy)
    vouching = create_checkpoint(*_checkpoint_parts(settings), entropy=entropy)
    SqliteJournal.create(store, now_us=clock.now_us())
    return (*keys, store, *vouching)


def checkpoint_of(settings: Stage4Settings) -> CheckpointFile:
    """Return the checkpoint of the store that these settings name, with the key that signs it.

    Raises:
        StoreError: the store or the key is missing, or the key is of no use.
    """
    return open_checkpoint(settings.state_dir / STORE_FILE, *_checkpoint_parts(settings))


def results_of(settings: Stage4Settings, entropy: Callable[[int], bytes] = os.urandom) -> Results:
    """Return how results are kept: under the keys, and for the time, that these settings name.

    Raises:
        KeyRefused: the key ring is missing, or cannot be used.
    """
    file = settings.outcome_key_file
    ring = read_key_ring(file, entropy)
    return Results(ring, retention_s=settings.outcome_retention_s, file=file)


def build_stage4(
    settings: Stage4Settings,
    *,
    clock: Clock,
    ids: Callable[[], str],
    on_sealed: OnSealed = tell_nobody,
    accept_restored: str | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    vfs: str | None = None,
) -> RunningStage4:
    """Open the store, recover it, bind both listeners and start to connect to Stage-3.

    `ids` returns a fresh unique string at each call, safe to use in names. `on_sealed` hears once,
    from another thread, that the log takes no more records and the process should end.
    `accept_restored` is why an operator serves from a store that its checkpoint does not vouch for;
    that is recorded. `vfs` names the SQLite VFS of the store, for a test that shows it a failing
    disk.

    Raises: StoreError, CredentialRefused, ListenRefused, AddressRefused, ValueError; each says what
    to do.
    """
    certificates = _certificates(settings, clock)
    server_name = settings.stage3.server_name or f"stage3.{settings.trust_domain}"
    health = HealthBoard([PLAN_SERVICE])

    def seal(error: StoreError) -> None:
        health.close()
        on_sealed(error)

    # Whatever is open is closed again, last first, if a later part cannot be made.
    with ExitStack() as undo:
        store = settings.state_dir / STORE_FILE
        checkpoint = checkpoint_of(settings)
        results = results_of(settings, entropy)
        interval_s = settings.checkpoint.interval_s
        journal = SqliteJournal.open(
            store,
            clock=clock,
            commit_timeout_s=settings.commit_timeout_s,
            reserve_bytes=settings.disk_reserve_bytes,
            results=results,
            on_poison=seal,
            vouching=CheckpointVouching(
                checkpoint,
                CheckpointCopier(checkpoint, interval_s=interval_s, clock=clock),
                accept_restored,
            ),
            vfs=vfs,
        )
        undo.callback(journal.close)
        connections = keep_connected(
            certificates.get("stage3_client"),
            lambda credentials: open_channel(settings.stage3.address, credentials, server_name),
        )
        undo.callback(connections.close)
        refusals = Refusals(
            journal,
            RefusalBudget(
                burst=settings.refusals.burst,
                per_second=settings.refusals.per_second,
                monotonic_s=clock.monotonic_s,
            ),
        )
        tally = PlanTally(clock.monotonic_s)
        servicer = PlanServicer(
            journal=journal,
            records=journal,
            stage3=Stage3Client(connections, connect_timeout_s=settings.stage3.connect_timeout_s),
            refusals=refusals,
            limits=settings.limits.as_plan_limits(),
            ids=ids,
            tally=tally,
        )
        probes = _probes_server(settings, health, clock, ids)
        undo.callback(probes.stop, 0)
        clients = _clients_server(
            settings, certificates.get("server"), servicer, health, refusals, clock, ids
        )
        undo.callback(clients.stop, 0)
        own = Sources(
            plans=tally,
            suppressed=lambda: refusals.suppressed_total,
            halt_reasons=lambda: halt_reasons(journal.ledger),
            recovered_plans=journal.recovered_plans,
        )
        common = common_metrics(
            "stage4",
            installed_version("stagegate-stage4", "stagegate"),
            ready=health.is_serving,
            ledger=journal.ledger,
            store=settings.state_dir / STORE_FILE,
            listeners=(clients, probes),
            certificates=certificates,
        )
        metrics = serve_metrics(
            settings.listen.metrics, [*common, *stage4_metrics(own)], health.is_serving
        )
        undo.pop_all()
    return RunningStage4(
        clients=clients,
        probes=probes,
        health=health,
        journal=journal,
        connections=connections,
        refusals=refusals,
        certificates=certificates,
        metrics=metrics,
    )


def _checkpoint_parts(settings: Stage4Settings) -> tuple[Path, Path, str]:
    """Return the paths of the checkpoint and of the key that signs it, and in whose name."""
    keeping = settings.checkpoint
    file = keeping.file_of("stage4", settings.state_dir)
    return file, keeping.key_of(settings.state_dir), settings.origin


def _certificates(settings: Stage4Settings, clock: Clock) -> dict[str, Rotation]:
    if settings.insecure_loopback:
        return {}
    server, caller = settings.tls, settings.stage3.tls
    if server is None or caller is None:
        raise ListenRefused(
            "the settings name no certificates",
            "Set `tls` and `stage3.tls`, or `insecure_loopback` for development on loopback.",
        )
    log = logger("stage4.certificates")
    return {
        "server": Rotation(
            CredentialFiles(server.certificate_file, server.key_file, server.client_authority_file),
            read_server_credential,
            clock=clock,
            log=log,
        ),
        "stage3_client": Rotation(
            CredentialFiles(caller.certificate_file, caller.key_file, caller.server_authority_file),
            read_caller_credential,
            clock=clock,
            log=log,
        ),
    }


def _clients_server(
    settings: Stage4Settings,
    certificate: Rotation | None,
    servicer: PlanServicer,
    health: HealthBoard,
    refusals: Refusals,
    clock: Clock,
    ids: Callable[[], str],
) -> RunningServer:
    assumed = None
    credentials = None
    if certificate is not None:
        credentials = rotating_server_credentials(certificate)
    else:
        uri = f"spiffe://{settings.trust_domain}/client/local"
        assumed = Identity(IdentityKind.CLIENT, "local", uri)
    policy = CallPolicy(
        statuses=STATUSES,
        access=AccessPolicy(
            trust_domain=settings.trust_domain,
            methods=plan_methods(reflection=settings.reflection),
            now_us=clock.now_us,
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
        bounds=Bounds(
            settings.plans.threads, settings.plans.max_in_flight, settings.plans.share, AT_ONCE
        ),
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
