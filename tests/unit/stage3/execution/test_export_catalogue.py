"""What is signed is what was offered when the head of the log was not yet read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.signed_document import open_document
from servicekit.tlog.tree import EMPTY_ROOT
from stage3_service.domains.acceptance import Offered
from stage3_service.domains.catalogue_document import MAX_CATALOGUE_BYTES
from stage3_service.domains.declaration import DomainDeclaration, MethodDeclaration, Repetition
from stage3_service.errors import Reason, Refusal
from stage3_service.execution.export_catalogue import CatalogueExport
from tests.harness.catalogues import KEY

METHOD = MethodDeclaration("run", "Runs.", 1.0, 100, Repetition.NEITHER)
NEAR = Offered(
    DomainDeclaration("near", "builtin", "text", {"run": METHOD}), None, None, offered=True
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def export(**changes: Any) -> CatalogueExport:
    """Return an export of one domain, at noon."""
    facts: dict[str, Any] = {
        "offer": lambda: [NEAR],
        "head": lambda: (3, EMPTY_ROOT),
        "signer": KEY,
        "now": lambda: NOON,
        **changes,
    }
    return CatalogueExport(**facts)


def test_it_says_what_when_and_from_which_log() -> None:
    """Five lines and the digest, and the same bytes each time."""
    signed = export().export()

    head, document = open_document(signed, LogVerifier(KEY.vkey), max_document_bytes=10_000)
    assert head.split("\n") == [
        "stagegate/catalogue/v1",
        "dev.test/stage3",
        "3",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "2026-03-01T12:00:00.000000Z",
        "",
    ]
    assert b'"name":"near"' in document
    assert export().export() == signed


def test_the_offer_is_read_before_the_head() -> None:
    """So whatever the catalogue shows as accepted is among the entries that the head names."""
    read: list[str] = []

    def offer() -> list[Offered]:
        read.append("offer")
        return [NEAR]

    def head() -> tuple[int, bytes]:
        read.append("head")
        return 3, EMPTY_ROOT

    export(offer=offer, head=head).export()

    assert read == ["offer", "head"]


def test_one_that_nobody_could_read_is_not_signed() -> None:
    """It is refused with what to do, before the head is read."""
    huge = replace(METHOD, description="a" * (MAX_CATALOGUE_BYTES + 1))
    offered = replace(NEAR, declaration=DomainDeclaration("near", "builtin", "text", {"run": huge}))

    with pytest.raises(Refusal, match="too large") as refused:
        export(offer=lambda: [offered]).export()
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
