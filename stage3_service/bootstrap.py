"""Put Stage-3 together: config, complete, run.

The one place that hands out clocks and entropy. A service that cannot keep its promises does not
start; what it found is an exception that names the file and what to do.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from threading import Thread, Timer
from typing import TYPE_CHECKING, Final

from servicekit.clock import Clock, SystemClock
from servicekit.entropy import DrawnEntropy
from servicekit.log import logger
from servicekit.release import installed_version
from servicekit.service_metrics import common_metrics, serve_metrics
from servicekit.serving.health import HealthBoard
from servicekit.serving.rotation import Rotation
from servicekit.serving.tls import (
    CredentialFiles,
    read_server_credential,
)
from servicekit.store.errors import StoreCorrupt
from servicekit.store.key_ring_file import ensure_key_ring, read_key_ring
from servicekit.store.ledger import Ledger
from servicekit.store.outcome_keys import refuse_other_ring
from stage3_service.adapters.declarations_file import read_declarations
from stage3_service.adapters.measured_domain import no_durations
from stage3_service.adapters.opening import Opening
from stage3_service.adapters.reaching import client_certificate, read_reachable
from stage3_service.adapters.registry import (
    ExtraDomain,
    create_domain_state,
)
from stage3_service.adapters.reporting import observe_definitions, reload_by_signal
from stage3_service.adapters.served_domains import ServedDomains
from stage3_service.audit.journal import Journal, JournalUnavailable
from stage3_service.authorization.denial_budget import DenialAllowance, DenialBudget
from stage3_service.domains.acceptance import Acceptance
from stage3_service.execution.definitions import Definitions
from stage3_service.execution.execute_plan import PlanExecutor
from stage3_service.execution.export_catalogue import CatalogueExport
from stage3_service.execution.late_answers import LateAnswers
from stage3_service.execution.outcome_key import adopt_outcome_key
from stage3_service.execution.record_reload import record_reload
from stage3_service.execution.record_violation import record_suppressed
from stage3_service.execution.recover import recover
from stage3_service.metrics import Sources, halt_reasons, stage3_metrics
from stage3_service.settings import STORE_FILE, Stage3Settings
from stage3_service.store.definition_rows import read_accepted
from stage3_service.store.event_tally import EventTally
from stage3_service.store.instants import from_us
from stage3_service.store.operator_reads import SqliteOperatorReads
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.schema import SCHEMA
from stage3_service.store.seal import Seal
from stage3_service.store.sqlite_journal import SqliteJournalStore
from stage3_service.store.state_check import state_problem
from stage3_service.store.token_rows import TokenRows
from stage3_service.store.vouching import Vouching, checkpoint_of, create_vouching
from stage3_service.tokens.issue import IssuePolicy
from stage3_service.wire.listeners import Listeners
from stage3_service.wire.method_tables import PLAN_SERVICE
from stage3_service.wire.operator_servicers import OperatorDesk
from stage3_service.wire.plan_tally import PlanTally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from servicekit.serving.scrape_listener import ScrapeListener
    from servicekit.serving.server import RunningServer
    from servicekit.store.errors import StoreError

_EVIDENCE: Final = "Keep the file as evidence, and restore a backup that the log agrees with."


@dataclass(frozen=True, slots=True)
class Stage3:
    """A Stage-3 that has recovered and holds its ports. `start` lets it answer.

    `certificates` are those in use, by what they are for: `server`, and `domain_client` where the
    settings name one. None are there on an insecure loopback.
    """

    plans: RunningServer
    operators: RunningServer
    probes: RunningServer
    metrics: ScrapeListener | None
    recovered_plans: int
    certificates: Mapping[str, Rotation]
    _executor: PlanExecutor
    _journal: Journal
    _budget: DenialBudget
    _ledger: Ledger
    _domains: ServedDomains
    _definitions: Definitions
    _health: HealthBoard
    _log: FilteringBoundLogger

    def start(self) -> None:
        """Answer on every listener; ready from here on."""
        if self.metrics is not None:
            self.metrics.start()
        for server in (self.probes, self.operators, self.plans):
            server.start()
        # Beside the service: a domain that is down, or slow to say what it is, holds nobody up.
        Thread(
            target=observe_definitions,
            args=(self._definitions, self._domains.catalogue(), self._log),
            name="definitions",
            daemon=True,
        ).start()
        self._health.set_all_serving()

    def reload(self) -> None:
        """Read the domains file again, because a signal asks for it; refused whole, and logged."""
        reload_by_signal(self._domains, self._log)

    def stop(self, drain_s: float) -> bool:
        """Drain and close; return whether every plan under way has ended.

        Readiness goes first. Plans under way get `drain_s` seconds; then no further step is
        started, and the steps that run get as long again to end and be answered.
        """
        self._health.close()
        # Before any call is cancelled: a plan that ends here is answered, and its log does not say
        # that its client gave up.
        last_start = Timer(drain_s, self._executor.stop_starting)
        last_start.daemon = True
        last_start.start()
        drained = self.plans.stop(2 * drain_s)
        last_start.cancel()
        self._executor.stop_starting()
        # In the reverse order, each also when another fails: the store is closed in any case.
        with ExitStack() as closing:
            if self.metrics is not None:
                closing.callback(self.metrics.stop)
            closing.callback(self._ledger.close)
            closing.callback(self._record_suppressed)
            closing.callback(self._domains.close)
            closing.callback(self.probes.stop, 0.0)
            closing.callback(self.operators.stop, 1.0)
        return drained

    def _record_suppressed(self) -> None:
        try:
            record_suppressed(self._journal, self._budget)
        except JournalUnavailable as unavailable:
            self._log.error("suppressed denials were not recorded", error=str(unavailable))


def now_utc(clock: Clock) -> datetime:
    """Return the wall time as an aware UTC instant."""
    return from_us(clock.now_us())


def create_state(
    settings: Stage3Settings,
    *,
    clock: Clock | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> tuple[Path, ...]:
    """Create what is missing of the store and of what declared domains keep on disk; return it.

    A new store gets a new key ring, unless one was put there before. With it come the key of its
    log and the first checkpoint, that of a log without entries. Beside a store that is there none
    of these is made anew: another ring would open nothing, and another key vouch for nothing.

    Raises:
        StoreError: the store cannot be created, or a ring or a log key that is there cannot be
            used, or one is gone.
        NotebookRefused: what a domain keeps is there and cannot be used.
        DeclarationsRefused: the domains file has problems.
    """
    catalogue = read_declarations(settings.domains_file)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = settings.state_dir / STORE_FILE
    if not os.path.lexists(store):
        keys = ensure_key_ring(settings.outcome_key_file, entropy)
        vouching = create_vouching(settings, entropy)
        Ledger.create(store, SCHEMA, now_us=(clock or SystemClock()).now_us())
        return (*keys, *vouching, store, *create_domain_state(catalogue, settings.state_dir))
    read_key_ring(settings.outcome_key_file, entropy)
    checkpoint_of(settings)
    return create_domain_state(catalogue, settings.state_dir)


def build_stage3(
    settings: Stage3Settings,
    *,
    clock: Clock | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    extra_domains: Sequence[ExtraDomain] = (),
    on_poison: Callable[[StoreError], None] | None = None,
    accept_restored: str | None = None,
    vfs: str | None = None,
) -> Stage3:
    """Open the store, verify it, close what a crash left open, and bind the listeners.

    `extra_domains` are served beside the declared ones, for programs that embed Stage-3.
    `on_poison` is called once, from any thread, when the store has failed: the process must end.
    `accept_restored` is why an operator serves from a store that its checkpoint does not vouch for;
    that is recorded, and the service starts halted. `vfs` names the SQLite VFS of the store, for a
    disk that is not the machine's own.

    Raises:
        StoreError: the store is missing, held by another process, damaged, of another version, or
            does not contain its checkpoint; or the key ring cannot be used, or lacks a key of
            stored outcomes.
        DeclarationsRefused, NotebookRefused: a domain cannot be opened as declared.
        CredentialRefused, ListenRefused, AddressRefused: a listener cannot be opened.
    """
    clock = clock or SystemClock()
    log = logger("stage3")
    certificates = _certificates(settings, clock, log)
    if (client := client_certificate(settings, clock, log)) is not None:
        certificates["domain_client"] = client
    catalogue, _digest = read_reachable(settings)
    store = settings.state_dir / STORE_FILE
    vouching = Vouching(settings, clock, accept_restored=accept_restored)
    ring = read_key_ring(settings.outcome_key_file, entropy)
    events = EventTally(catalogue.extended(extra.declaration for extra in extra_domains))
    ledger = vouching.open(on_poison=on_poison, vfs=vfs)
    with ExitStack() as opened:
        opened.callback(ledger.close)
        if (problem := ledger.read(state_problem)) is not None:
            raise StoreCorrupt(f"{store}: {problem}", advice=_EVIDENCE)
        ledger.read(lambda reader: refuse_other_ring(reader, ring, settings.outcome_key_file))
        acceptance = _acceptance(ledger)
        rows = TokenRows()
        journal = Journal(SqliteJournalStore(ledger, rows, PlanRows(ring), events.count))
        vouching.settle(ledger, journal)
        if adopt_outcome_key(journal, ring.current):
            log.info("another key seals outcomes from here on", key_id=ring.current)
        recovered = recover(journal)
        late = LateAnswers(journal, entropy)
        durations = no_durations()
        opening = Opening(
            settings=settings,
            clock=clock,
            log=log,
            journal=journal,
            late=late,
            acceptance=acceptance,
            certificate=client,
            extra_domains=extra_domains,
            durations=durations,
            on_declared=events.extend,
        )
        serving = ServedDomains(
            opening.begin(catalogue),
            read=partial(read_reachable, settings),
            begin=opening.begin,
            record=partial(record_reload, journal),
        )
        opened.callback(serving.close)
        budget = DenialBudget(
            DenialAllowance(burst=settings.denials.burst, per_second=settings.denials.per_second)
        )
        seal = Seal(on_poison, log)
        executor = PlanExecutor(
            journal=journal,
            serving=serving,
            budget=budget,
            late=late,
            # For salts, six of them a plan. Credentials come from the source itself.
            entropy=DrawnEntropy(entropy),
            seal=seal,
        )
        reads = SqliteOperatorReads(ledger, rows)
        halts = partial(halt_reasons, ledger, reads, seal)
        definitions = Definitions(
            journal,
            acceptance,
            serving.catalogue,
            serving.describing,
        )
        export = CatalogueExport(
            offer=serving.offer,
            head=lambda: (ledger.head.size, ledger.head.root),
            signer=vouching.key,
            now=lambda: now_utc(clock),
        )
        desk = OperatorDesk(
            journal=journal,
            reads=reads,
            halts=halts,
            ledger=ledger,
            offer=serving.offer,
            reload=serving.reload,
            export=export.export,
            vkey=vouching.key.vkey,
            definitions=definitions,
            policy=IssuePolicy(
                max_lifetime_s=settings.tokens.max_lifetime_s,
                max_bound_lifetime_s=settings.tokens.max_bound_lifetime_s,
                trust_domain=settings.trust_domain,
            ),
            entropy=entropy,
            now=lambda: now_utc(clock),
            origin=settings.origin,
            version=installed_version("stagegate-stage3", "stagegate"),
        )
        health = HealthBoard((PLAN_SERVICE,))
        listeners = Listeners(
            settings, clock, entropy, journal, budget, log, certificates.get("server")
        )
        tally = PlanTally()
        plans = listeners.plans(executor, health, tally)
        opened.callback(plans.stop, 0.0)
        operators = listeners.operators(desk, health)
        opened.callback(operators.stop, 0.0)
        probes = listeners.probes(health)
        opened.callback(probes.stop, 0.0)
        own = Sources(
            plans=tally,
            events=events,
            durations=durations,
            suppressed=lambda: budget.suppressed_total,
            abandoned=serving.abandoned,
            halt_reasons=halts,
            recovered_plans=recovered,
        )
        common = common_metrics(
            "stage3",
            installed_version("stagegate-stage3", "stagegate"),
            ready=health.is_serving,
            ledger=ledger,
            store=settings.state_dir / STORE_FILE,
            listeners=(plans, operators, probes),
            certificates=certificates,
        )
        metrics = serve_metrics(
            settings.listen.metrics, [*common, *stage3_metrics(own)], health.is_serving
        )
        opened.pop_all()
    return Stage3(
        plans=plans,
        operators=operators,
        probes=probes,
        metrics=metrics,
        recovered_plans=recovered,
        certificates=certificates,
        _executor=executor,
        _journal=journal,
        _budget=budget,
        _ledger=ledger,
        _domains=serving,
        _definitions=definitions,
        _health=health,
        _log=log,
    )


def _certificates(
    settings: Stage3Settings, clock: Clock, log: FilteringBoundLogger
) -> dict[str, Rotation]:
    tls = settings.tls
    if tls is None or settings.insecure_loopback:
        return {}
    files = CredentialFiles(tls.certificate_file, tls.key_file, tls.client_authority_file)
    read = read_server_credential
    return {"server": Rotation(files, read, clock=clock, log=log)}


def _acceptance(ledger: Ledger) -> Acceptance:
    return Acceptance({name: row.definition for name, row in ledger.read(read_accepted).items()})
