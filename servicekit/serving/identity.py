"""Who is calling, read from the one URI SAN of a verified certificate.

Deliberately absent: trust in anything a caller says about itself in metadata, any identity kind
outside the closed list, and a default identity.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

URI_MAX_BYTES: Final = 512
"""Longest identity accepted, in bytes: it is stored with every refusal, so it is bounded."""

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


class IdentityKind(StrEnum):
    """The closed list of callers a certificate may name."""

    STAGE3 = "stage3"
    STAGE4 = "stage4"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    CLIENT = "client"
    DOMAIN = "domain"


_NAMELESS: Final = frozenset({IdentityKind.STAGE3, IdentityKind.STAGE4})
"""Kinds of which a trust domain has one: Stage-3 as its domains see it, Stage-4 as Stage-3 does."""


class IdentityRefused(Exception):
    """The caller's certificate names no acceptable identity; `description` says why."""

    def __init__(self, description: str) -> None:
        """Keep the reason; it is for the log, never for the caller."""
        super().__init__(description)
        self.description = description


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller: its kind, its name (empty for a kind that has only one) and its URI."""

    kind: IdentityKind
    name: str
    uri: str


def verify_trust_domain(trust_domain: str) -> str:
    """Return the trust domain, or refuse one that no certificate could name.

    Raises:
        ValueError: it is not a lower-case host name.
    """
    if _TRUST_DOMAIN.fullmatch(trust_domain) is None:
        message = f"{trust_domain!r} is not a trust domain: a lower-case host name is expected"
        raise ValueError(message)
    return trust_domain


def parse_identity(uri: str, trust_domain: str) -> Identity:
    """Parse `spiffe://<trust domain>/<kind>[/<name>]`; match every part exactly.

    Nothing is folded, decoded or trimmed: two spellings of one identity would be two callers in
    the log and one in the method table.

    Raises:
        IdentityRefused: the URI names another trust domain, an unknown kind or no valid name.
    """
    if len(uri.encode("utf-8", "surrogatepass")) > URI_MAX_BYTES:
        description = f"the URI SAN is longer than {URI_MAX_BYTES} bytes"
        raise IdentityRefused(description)
    prefix = f"spiffe://{trust_domain}/"
    if not uri.startswith(prefix):
        description = f"the URI SAN is not of the trust domain {trust_domain}"
        raise IdentityRefused(description)
    kind_text, separator, name = uri.removeprefix(prefix).partition("/")
    try:
        kind = IdentityKind(kind_text)
    except ValueError:
        description = "the URI SAN names an unknown kind of caller"
        raise IdentityRefused(description) from None
    if kind in _NAMELESS:
        if separator:
            description = f"{kind} is one caller and takes no name"
            raise IdentityRefused(description)
        return Identity(kind, "", uri)
    if _NAME.fullmatch(name) is None:
        description = f"the {kind} in the URI SAN has no valid name"
        raise IdentityRefused(description)
    return Identity(kind, name, uri)


def certified_identity(
    uris: Sequence[bytes], all_names: Sequence[bytes], trust_domain: str
) -> Identity:
    """Return the caller that a certificate with these subject alternative names names.

    The URI must be the certificate's only one: with a second one, two programs could read two
    callers out of one certificate.

    Raises:
        IdentityRefused: not exactly one SAN, or not a known identity.
    """
    if len(uris) != 1:
        description = f"the certificate has {len(uris)} URI SANs, exactly one is accepted"
        raise IdentityRefused(description)
    if list(all_names) != list(uris):
        description = "the certificate of a caller has a SAN beside its URI SAN"
        raise IdentityRefused(description)
    try:
        uri = uris[0].decode("ascii")
    except UnicodeDecodeError:
        description = "the URI SAN is not ASCII"
        raise IdentityRefused(description) from None
    return parse_identity(uri, trust_domain)
