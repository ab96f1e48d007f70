"""The rows of accepted definitions: one a domain, replaced by the next acceptance.

Guards the start: a row whose bytes are not the definition of its digest is no definition.
Deliberately absent: earlier definitions. That they were accepted is in the log, by their digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stage3_service.audit.records import AcceptedDefinition
from stage3_service.domains.definition import Definition, DefinitionUnavailable
from stage3_service.store.instants import from_us, to_us

if TYPE_CHECKING:
    from servicekit.store.ledger import Reader, SqlValue

DIGEST_OF = "SELECT digest FROM accepted_definitions WHERE domain = ?"
ACCEPT = "INSERT OR REPLACE INTO accepted_definitions VALUES (?, ?, ?, ?, ?)"
_COLUMNS = "SELECT domain, digest, definition, accepted_by, accepted_us FROM accepted_definitions"


def accepted_row(accepted: AcceptedDefinition) -> tuple[SqlValue, ...]:
    """Return the row of an acceptance."""
    definition = accepted.definition
    row = (accepted.domain, definition.digest, definition.document_json)
    return (*row, accepted.by, to_us(accepted.at))


def read_accepted(reader: Reader) -> dict[str, AcceptedDefinition]:
    """Return what is accepted, by domain.

    Raises:
        DefinitionUnavailable: a row's bytes are no definition, or that of another digest.
    """
    rows: list[Any] = reader.rows(f"{_COLUMNS} ORDER BY domain")
    return {row[0]: _decode(*row) for row in rows}


def _decode(domain: str, digest: str, document: bytes, by: str, at_us: int) -> AcceptedDefinition:
    definition = Definition.read(document)
    if definition.digest != digest:
        raise DefinitionUnavailable(f"the definition of {domain} is not that of its digest")
    return AcceptedDefinition(domain, definition, by, from_us(at_us))
