"""The doors of operators: tokens, the log, and the service itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from stagegate.stage3.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
)

from servicekit.serving.call_facts import call_facts
from servicekit.store.errors import StoreError
from servicekit.tlog.commitment import SALT_BYTES
from stage3_service.audit.journal import JournalUnavailable
from stage3_service.audit.reads import EventFilter, TokenCursor
from stage3_service.audit.records import HaltReason, TokenRecord
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.errors import Reason, Refusal
from stage3_service.execution.halt import halt, resume
from stage3_service.execution.token_operations import issue, revoke
from stage3_service.tokens.credential import CREDENTIAL_ENTROPY_BYTES
from stage3_service.tokens.issue import TOKEN_ID_ENTROPY_BYTES, IssuePolicy, issue_token
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.usage import TokenUsage
from stage3_service.wire.codec import (
    decode_issue_request,
    encode_domain,
    encode_event,
    encode_token,
    timestamp_of_us,
)
from stage3_service.wire.pages import decode_page_token, encode_page_token, page_size
from stage3_service.wire.status import STATUSES, wire_error

if TYPE_CHECKING:
    from datetime import datetime

    import grpc

    from servicekit.store.ledger import Ledger
    from stage3_service.audit.journal import Journal
    from stage3_service.audit.reads import OperatorReads
    from stage3_service.domains.acceptance import Offered
    from stage3_service.execution.definitions import Definitions

# Of several reasons one is told: that which a person has to do something about first.
_TOLD_FIRST: Final = (HaltReason.SEAL, HaltReason.OPERATOR, HaltReason.CLOCK, HaltReason.DISK)


class Reloaded(Protocol):
    """Know what is served from now on: the file's digest, and the names of its domains."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the file."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Return the declared names."""


MAX_REASON_BYTES = 512
"""An operator's words for the log: a sentence, not a document."""


@dataclass(frozen=True, slots=True)
class OperatorDesk:
    """Hold what the operators' doors need. `now` returns an aware UTC instant."""

    journal: Journal
    reads: OperatorReads
    halts: Callable[[], frozenset[HaltReason]]
    ledger: Ledger
    offer: Callable[[], Iterable[Offered]]
    reload: Callable[[str], Reloaded]
    export: Callable[[], bytes]
    vkey: str
    definitions: Definitions
    policy: IssuePolicy
    entropy: Callable[[int], bytes]
    now: Callable[[], datetime]
    origin: str
    version: str


@contextmanager
def _answering(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        STATUSES.abort(context, wire_error(refusal))
    except (JournalUnavailable, StoreError):
        STATUSES.abort(
            context,
            wire_error(
                Refusal(
                    Reason.AUDIT_UNAVAILABLE,
                    "the audit log cannot be used; look at the service's log",
                )
            ),
        )


def _invalid(field: str, description: str) -> Refusal:
    return Refusal(Reason.REQUEST_INVALID, f"{field}: {description}", ((field, description),))


def _stated_reason(reason: str) -> str:
    if not reason.strip():
        raise _invalid("reason", "is required; say why, for the log")
    if len(reason.encode()) > MAX_REASON_BYTES or not reason.isprintable():
        raise _invalid("reason", f"must be printable and at most {MAX_REASON_BYTES} bytes")
    return reason


class TokenServicer(token_service_pb2_grpc.TokenServiceServicer):
    """Issue, show and revoke tokens."""

    def __init__(self, desk: OperatorDesk) -> None:
        self._desk = desk

    def IssueToken(
        self, request: token_service_pb2.IssueTokenRequest, context: grpc.ServicerContext
    ) -> token_service_pb2.IssueTokenResponse:
        """Issue a token in the name of the calling operator."""
        desk = self._desk
        with _answering(context):
            make = partial(
                issue_token,
                decode_issue_request(request),
                issued_by=call_facts(context).identity.name,
                credential_entropy=desk.entropy(CREDENTIAL_ENTROPY_BYTES),
                id_entropy=desk.entropy(TOKEN_ID_ENTROPY_BYTES),
                policy=desk.policy,
            )
            try:
                issued = issue(
                    desk.journal, lambda now: make(now=now), salt=desk.entropy(SALT_BYTES)
                )
            except IssueRefused as refused:
                raise _invalid(refused.field, refused.description) from None
        record = TokenRecord(issued.token, TokenUsage(), None, expiry_recorded=False)
        return token_service_pb2.IssueTokenResponse(
            token=encode_token(record, issued.token.issued_at), token_hash=issued.credential
        )

    def GetToken(
        self, request: token_service_pb2.GetTokenRequest, context: grpc.ServicerContext
    ) -> token_service_pb2.GetTokenResponse:
        """Show one token."""
        with _answering(context):
            record = self._desk.reads.token(request.token_id)
            if record is None:
                raise Refusal(
                    Reason.TOKEN_NOT_FOUND,
                    "no token has this reference; list them with `stage3 token list`",
                )
        return token_service_pb2.GetTokenResponse(token=encode_token(record, self._desk.now()))

    def ListTokens(
        self, request: token_service_pb2.ListTokensRequest, context: grpc.ServicerContext
    ) -> token_service_pb2.ListTokensResponse:
        """Show a page of tokens, newest first."""
        with _answering(context):
            position = decode_page_token(request.page_token, int, str)
            after = None
            if position is not None:
                after = TokenCursor(int(position[0]), str(position[1]))
            size = page_size(request.page_size, default=50, most=500)
            records, cursor = self._desk.reads.token_page(size, after)
        now = self._desk.now()
        return token_service_pb2.ListTokensResponse(
            tokens=[encode_token(record, now) for record in records],
            next_page_token=(
                "" if cursor is None else encode_page_token(cursor.issued_us, cursor.token_id)
            ),
        )

    def RevokeToken(
        self, request: token_service_pb2.RevokeTokenRequest, context: grpc.ServicerContext
    ) -> token_service_pb2.RevokeTokenResponse:
        """Revoke a token for good."""
        desk = self._desk
        with _answering(context):
            revoked = revoke(
                desk.journal,
                request.token_id,
                revoked_by=call_facts(context).identity.name,
                reason=_stated_reason(request.reason),
            )
            record = desk.reads.token(request.token_id) or revoked.record
        return token_service_pb2.RevokeTokenResponse(
            token=encode_token(record, desk.now()),
            already_revoked=revoked.already,
            steps_in_flight=[
                token_service_pb2.StepInFlight(plan_id=plan.plan_id, step=plan.running_step or 0)
                for plan in revoked.in_flight
            ],
        )


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Show the log. Nothing here changes it."""

    def __init__(self, desk: OperatorDesk) -> None:
        self._desk = desk

    def ListEvents(
        self, request: audit_service_pb2.ListEventsRequest, context: grpc.ServicerContext
    ) -> audit_service_pb2.ListEventsResponse:
        """Show a page of events, oldest first."""
        with _answering(context):
            position = decode_page_token(request.page_token, int)
            after = -1 if position is None else int(position[0])
            size = page_size(request.page_size, default=100, most=1000)
            only = EventFilter(request.plan_id, request.token_id, request.event_type)
            rows, cursor = self._desk.reads.event_page(size, after, only)
        return audit_service_pb2.ListEventsResponse(
            events=[encode_event(row) for row in rows],
            next_page_token="" if cursor is None else encode_page_token(cursor),
        )

    def GetCheckpoint(
        self, _request: audit_service_pb2.GetCheckpointRequest, _context: grpc.ServicerContext
    ) -> audit_service_pb2.GetCheckpointResponse:
        """Show the head of the last durable commit."""
        head = self._desk.ledger.head
        return audit_service_pb2.GetCheckpointResponse(
            origin=self._desk.origin, tree_size=head.size, root_hash=head.root
        )


class OperatorServicer(operator_service_pb2_grpc.OperatorServiceServicer):
    """Show the service, stop it, and let it go on."""

    def __init__(self, desk: OperatorDesk) -> None:
        self._desk = desk

    def GetStatus(
        self, _request: operator_service_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.GetStatusResponse:
        """Say whether steps may start, and why not."""
        desk = self._desk
        with _answering(context):
            plans_running, halted = desk.reads.plans_running(), desk.reads.halt()
            reasons = desk.halts()
        response = operator_service_pb2.GetStatusResponse(
            version=desk.version,
            tree_size=desk.ledger.head.size,
            plans_running=plans_running,
        )
        response.halt_reason = next((reason for reason in _TOLD_FIRST if reason in reasons), "")
        # The only halt whose beginning is written down; it is not that of another.
        if halted is not None and response.halt_reason == HaltReason.OPERATOR:
            response.halt_time.CopyFrom(timestamp_of_us(halted[1]))
        response.serving = not reasons
        return response

    def ListDomains(
        self, _request: operator_service_pb2.ListDomainsRequest, _context: grpc.ServicerContext
    ) -> operator_service_pb2.ListDomainsResponse:
        """Show the declared domains."""
        return operator_service_pb2.ListDomainsResponse(
            domains=[encode_domain(offered) for offered in self._desk.offer()]
        )

    def DescribeDomain(
        self, request: operator_service_pb2.DescribeDomainRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.DescribeDomainResponse:
        """Ask a domain what it is, and compare."""
        with _answering(context):
            shown = self._desk.definitions.show(request.domain)
        return operator_service_pb2.DescribeDomainResponse(
            definition_json=shown.definition.document_json,
            digest=shown.definition.digest,
            accepted_digest="" if shown.accepted is None else shown.accepted.digest,
            difference=shown.difference,
        )

    def AcceptDomain(
        self, request: operator_service_pb2.AcceptDomainRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.AcceptDomainResponse:
        """Accept what a domain shows, if it is what the operator has looked at."""
        with _answering(context):
            accepted = self._desk.definitions.accept(
                request.domain, request.digest, by=call_facts(context).identity.name
            )
        return operator_service_pb2.AcceptDomainResponse(
            previous_digest=accepted.previous_digest or "", already_accepted=accepted.already
        )

    def ReloadDomains(
        self, _request: operator_service_pb2.ReloadDomainsRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.ReloadDomainsResponse:
        """Read the domains file again; refused whole, with every problem."""
        with _answering(context):
            try:
                reloaded = self._desk.reload(call_facts(context).identity.name)
            except DeclarationsRefused as refused:
                problems = tuple(("domains_file", problem) for problem in refused.problems)
                raise Refusal(
                    Reason.REQUEST_INVALID,
                    "the domains file cannot be used; what was served is served",
                    problems,
                ) from None
        return operator_service_pb2.ReloadDomainsResponse(
            declarations_digest=reloaded.digest, domains=reloaded.domains
        )

    def ExportDomains(
        self, _request: operator_service_pb2.ExportDomainsRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.ExportDomainsResponse:
        """Sign what is offered now."""
        with _answering(context):
            signed = self._desk.export()
        return operator_service_pb2.ExportDomainsResponse(
            signed_catalogue=signed, verifier_key=self._desk.vkey
        )

    def Halt(
        self, request: operator_service_pb2.HaltRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.HaltResponse:
        """Start no further step."""
        with _answering(context):
            already = halt(
                self._desk.journal,
                halted_by=call_facts(context).identity.name,
                reason=_stated_reason(request.reason),
            )
        return operator_service_pb2.HaltResponse(already_halted=already)

    def Resume(
        self, request: operator_service_pb2.ResumeRequest, context: grpc.ServicerContext
    ) -> operator_service_pb2.ResumeResponse:
        """Let steps start again; a clock that had stepped is believed from now on."""
        with _answering(context):
            already = resume(
                self._desk.journal,
                resumed_by=call_facts(context).identity.name,
                reason=_stated_reason(request.reason),
            )
            if self._desk.ledger.clock_problem is not None:
                self._desk.ledger.acknowledge_clock()
                already = False
        return operator_service_pb2.ResumeResponse(already_serving=already)
