"""How what is offered leaves the house: as a document that the log's key signed.

Guards the order of reading: the offer first, then the head of the log. So every acceptance and
every reload that the catalogue shows is among the entries that the head names. Deliberately absent:
an event. Nothing is changed and nothing is promised that the log does not say already; and asking
the domains, which would make a look at the catalogue depend on who is up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from servicekit.tlog.checkpoint import Checkpoint, encode_checkpoint
from servicekit.tlog.note import NoteSigner
from servicekit.tlog.signed_document import sign_document
from stage3_service.audit.event import format_timestamp
from stage3_service.domains.acceptance import Offered
from stage3_service.domains.catalogue_document import CatalogueTooLarge, encode_catalogue
from stage3_service.errors import Reason, Refusal

CATALOGUE_FORMAT: Final = "stagegate/catalogue/v1"
"""First line of the statement. No origin of a log is this, so that none is taken for the other."""


@dataclass(frozen=True, slots=True)
class CatalogueExport:
    """Sign what is offered. Any thread.

    `offer` returns what the next plan is measured against, `head` the size and root of the last
    durable commit, `now` an aware UTC instant. `signer` signs in the name of the log.
    """

    offer: Callable[[], Iterable[Offered]]
    head: Callable[[], tuple[int, bytes]]
    signer: NoteSigner
    now: Callable[[], datetime]

    def export(self) -> bytes:
        """Return the signed catalogue as docs/spec/catalogue.md has it.

        Raises:
            Refusal: LIMIT_EXCEEDED, it is larger than any reader takes.
        """
        try:
            document = encode_catalogue(self.offer())
        except CatalogueTooLarge as refused:
            raise Refusal(
                Reason.LIMIT_EXCEEDED,
                f"the catalogue of the declared domains is too large to be read: {refused}; "
                "declare fewer methods, or smaller schemas",
            ) from refused
        size, root = self.head()
        checkpoint = encode_checkpoint(Checkpoint(self.signer.name, size, root))
        exported = format_timestamp(self.now())
        return sign_document(f"{CATALOGUE_FORMAT}\n{checkpoint}{exported}\n", document, self.signer)
