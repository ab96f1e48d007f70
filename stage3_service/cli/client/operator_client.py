"""The operators' listener as a client sees it: calls in, plain documents out.

The documents are what `--json` prints; their field names are stable and those of the protos.
Deliberately absent: retries, and any call that is not an operator's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
from stagegate.stage3.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
)

from servicekit.cli.connection import CALL_TIMEOUT_S, connected, reading_refusals
from servicekit.cli.instant import now_utc
from servicekit.cli.profile import Profile, read_profile
from stage3_service.cli.client.message_documents import (
    Document,
    domain_document,
    event_document,
    instant_text,
    token_document,
)
from stage3_service.cli.options import PROFILE_VARIABLE

SERVICE: Final = "stage3"
_TOKENS_PER_PAGE: Final = 500
_EVENTS_PER_PAGE: Final = 1000
_HALTS: Final = 100_000
_BY_AN_OPERATOR: Final = "operator"


class OperatorClient:
    """Call the three services of the operators' listener."""

    def __init__(self, channel: grpc.Channel, profile: Profile) -> None:
        self.profile = profile
        self._tokens = token_service_pb2_grpc.TokenServiceStub(channel)
        self._audit = audit_service_pb2_grpc.AuditServiceStub(channel)
        self._operator = operator_service_pb2_grpc.OperatorServiceStub(channel)

    def issue(self, request: token_service_pb2.IssueTokenRequest) -> tuple[Document, str]:
        """Issue a token; return it, and its credential."""
        answer = self._tokens.IssueToken(request, timeout=CALL_TIMEOUT_S)
        return token_document(answer.token), answer.token_hash

    def token(self, token_id: str) -> Document:
        """Return one token."""
        request = token_service_pb2.GetTokenRequest(token_id=token_id)
        return token_document(self._tokens.GetToken(request, timeout=CALL_TIMEOUT_S).token)

    def tokens(self, most: int) -> Iterator[Document]:
        """Yield at most `most` tokens, newest first."""
        page_token = ""
        while most > 0:
            request = token_service_pb2.ListTokensRequest(
                page_size=min(most, _TOKENS_PER_PAGE), page_token=page_token
            )
            page = self._tokens.ListTokens(request, timeout=CALL_TIMEOUT_S)
            yield from (token_document(token) for token in page.tokens)
            most -= len(page.tokens)
            page_token = page.next_page_token
            if not page_token:
                return

    def revoke(self, token_id: str, reason: str) -> Document:
        """Revoke a token; return it with the steps in flight."""
        request = token_service_pb2.RevokeTokenRequest(token_id=token_id, reason=reason)
        answer = self._tokens.RevokeToken(request, timeout=CALL_TIMEOUT_S)
        return {
            "token": token_document(answer.token),
            "already_revoked": answer.already_revoked,
            "steps_in_flight": [
                {"plan_id": step.plan_id, "step": step.step} for step in answer.steps_in_flight
            ],
        }

    def events(
        self, *, plan_id: str, token_id: str, event_type: str, most: int
    ) -> Iterator[Document]:
        """Yield at most `most` events of the log, oldest first."""
        page_token = ""
        while most > 0:
            request = audit_service_pb2.ListEventsRequest(
                page_size=min(most, _EVENTS_PER_PAGE),
                page_token=page_token,
                plan_id=plan_id,
                token_id=token_id,
                event_type=event_type,
            )
            page = self._audit.ListEvents(request, timeout=CALL_TIMEOUT_S)
            yield from (event_document(event) for event in page.events)
            most -= len(page.events)
            page_token = page.next_page_token
            if not page_token:
                return

    def domains(self) -> list[Document]:
        """Return the declared domains."""
        request = operator_service_pb2.ListDomainsRequest()
        answer = self._operator.ListDomains(request, timeout=CALL_TIMEOUT_S)
        return [domain_document(domain) for domain in answer.domains]

    def describe_domain(self, domain: str) -> Document:
        """Return what a domain elsewhere shows now, beside what was accepted."""
        request = operator_service_pb2.DescribeDomainRequest(domain=domain)
        answer = self._operator.DescribeDomain(request, timeout=CALL_TIMEOUT_S)
        return {
            "domain": domain,
            "digest": answer.digest,
            "accepted_digest": answer.accepted_digest or None,
            "difference": list(answer.difference),
            "definition": json.loads(answer.definition_json),
        }

    def accept_domain(self, domain: str, digest: str) -> Document:
        """Accept what a domain shows, if it has this digest."""
        request = operator_service_pb2.AcceptDomainRequest(domain=domain, digest=digest)
        answer = self._operator.AcceptDomain(request, timeout=CALL_TIMEOUT_S)
        return {
            "domain": domain,
            "digest": digest,
            "previous_digest": answer.previous_digest or None,
            "already_accepted": answer.already_accepted,
        }

    def reload_domains(self) -> Document:
        """Let the service read its domains file again."""
        request = operator_service_pb2.ReloadDomainsRequest()
        answer = self._operator.ReloadDomains(request, timeout=CALL_TIMEOUT_S)
        return {"declarations_digest": answer.declarations_digest, "domains": list(answer.domains)}

    def export_domains(self) -> tuple[bytes, str]:
        """Return the signed catalogue of what is offered, and the line that verifies it."""
        request = operator_service_pb2.ExportDomainsRequest()
        answer = self._operator.ExportDomains(request, timeout=CALL_TIMEOUT_S)
        return answer.signed_catalogue, answer.verifier_key

    def status(self) -> Document:
        """Return the state of the service."""
        request = operator_service_pb2.GetStatusRequest()
        answer = self._operator.GetStatus(request, timeout=CALL_TIMEOUT_S)
        return {
            "serving": answer.serving,
            "halt_reason": answer.halt_reason or None,
            "halt_time": instant_text(answer, "halt_time"),
            "version": answer.version,
            "tree_size": answer.tree_size,
            "plans_running": answer.plans_running,
        }

    def words_of_halt(self, status: Document) -> Document:
        """Return who brought about the halt that `status` tells of, and in which words.

        Nothing where no operator did, or where this one may not read the log.
        """
        since = status["halt_time"]
        if status["halt_reason"] != _BY_AN_OPERATOR or not isinstance(since, str):
            return {}
        began = datetime.fromisoformat(since)
        try:
            for event in self.events(
                plan_id="", token_id="", event_type="SERVICE_HALTED", most=_HALTS
            ):
                data = event["additional_data"]
                if datetime.fromisoformat(str(event["timestamp"])) == began:
                    by = data.get("by") if isinstance(data, dict) else None
                    return {"halt_said": event["reason"], "halted_by": by}
        except grpc.RpcError:
            pass
        return {}

    def halt(self, reason: str) -> bool:
        """Halt; return whether it was halted before."""
        request = operator_service_pb2.HaltRequest(reason=reason)
        return self._operator.Halt(request, timeout=CALL_TIMEOUT_S).already_halted

    def resume(self, reason: str) -> bool:
        """Resume; return whether it was serving before."""
        request = operator_service_pb2.ResumeRequest(reason=reason)
        return self._operator.Resume(request, timeout=CALL_TIMEOUT_S).already_serving


@contextmanager
def operator_client(file: Path | None, address: str | None) -> Iterator[OperatorClient]:
    """Connect as the profile says.

    Raises:
        CommandFailed: no profile, nobody there, or the service refused.
        SettingsRefused, CredentialRefused, AddressRefused: the profile cannot be used.
    """
    profile = read_profile(
        file, service=SERVICE, variable=PROFILE_VARIABLE, environ=os.environ, address=address
    )
    with (
        connected(profile, service=SERVICE, now=now_utc()) as channel,
        reading_refusals(SERVICE, profile),
    ):
        yield OperatorClient(channel, profile)
