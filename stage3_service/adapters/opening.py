"""Opens what a catalogue declares, as one generation that plans can be measured against.

Guards one thing beside `registry`: what a generation shares with the next (what is accepted, what
was measured) is handed in, and everything else is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from structlog.typing import FilteringBoundLogger

from servicekit.clock import Clock
from servicekit.serving.rotation import Rotation
from servicekit.tally import Durations
from stage3_service.adapters.grpc_domain import Dialer
from stage3_service.adapters.json_schema import compile_foreign_schema
from stage3_service.adapters.kept_domains import KeptDomains
from stage3_service.adapters.looking_again import LookingAgain
from stage3_service.adapters.mcp.opening import mcp_opener
from stage3_service.adapters.measured_domain import measure_domains
from stage3_service.adapters.reaching import connect_timeout_s
from stage3_service.adapters.registry import ExtraDomain, open_domains
from stage3_service.adapters.reporting import logging_raised, recording_late
from stage3_service.adapters.served_domains import Generation
from stage3_service.audit.journal import Journal
from stage3_service.domains.acceptance import Acceptance, Offer
from stage3_service.domains.declaration import Catalogue
from stage3_service.execution.house import House
from stage3_service.execution.late_answers import LateAnswers
from stage3_service.execution.record_unconfined import record_unconfined
from stage3_service.execution.serving import Served
from stage3_service.settings import Stage3Settings


@dataclass(frozen=True, slots=True)
class Opening:
    """Hold what every generation is opened with. `on_declared` hears of each catalogue."""

    settings: Stage3Settings
    clock: Clock
    log: FilteringBoundLogger
    journal: Journal
    late: LateAnswers
    acceptance: Acceptance
    certificate: Rotation | None
    extra_domains: Sequence[ExtraDomain]
    durations: Durations
    on_declared: Callable[[Catalogue], None]
    kept: KeptDomains = field(default_factory=KeptDomains)

    def begin(self, declared: Catalogue) -> Generation:
        """Open all that is declared, or nothing.

        Raises:
            DeclarationsRefused, NotebookRefused, AddressRefused: a domain cannot be opened.
            JournalUnavailable: that a server runs unconfined could not be recorded.

        """
        settings = self.settings
        record_unconfined(self.journal, declared)
        monotonic_s = self.clock.monotonic_s
        looking = LookingAgain(self.acceptance, monotonic_s, self.log)
        domains = open_domains(
            declared,
            settings.state_dir,
            on_late=recording_late(self.late, self.log),
            on_raised=logging_raised(self.log),
            extra_domains=self.extra_domains,
            dialer=Dialer(
                self.certificate,
                connect_timeout_s(settings),
                monotonic_s,
                self.acceptance,
                looking.on_connected,
            ),
            open_mcp=partial(
                self.kept.open,
                open_domain=mcp_opener(
                    settings, self.acceptance, self.log, on_doubt=looking.on_doubt
                ),
            ),
        )
        looking.begin(domains.describable)
        self.on_declared(domains.catalogue)
        offer = Offer(
            domains.catalogue, self.acceptance, compile_foreign_schema, looking.on_withheld
        )
        house = House(
            offer,
            settings.tokens.max_lifetime_s,
            settings.limits.as_plan_limits(),
            outcome_retention_s=settings.outcome_retention_s,
        )
        measured = measure_domains(domains.domains, domains.catalogue, self.durations, monotonic_s)
        return Generation(domains, offer, Served(house, measured))
