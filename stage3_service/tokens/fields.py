r"""The rule of every name in a token.

Every name is ASCII, bounded, and compared as it is; there is nothing to normalize, and none of
`* ? % [ ] { } ( ) ^ $ | \ , ;` that somebody could take for a pattern or a list.

| field | rule |
|---|---|
| `user_id`, `issued_by` | 1 to 128 of `A-Z a-z 0-9 . _ @ -`, alphanumeric at both, not reserved |
| `capability` | 1 to 128 of `A-Z a-z 0-9 . _ : / -` and space, alphanumeric at both ends |
| a domain | `[a-z][a-z0-9_]{0,63}`, not reserved |
| a method | `[a-z][a-z0-9_]{0,63}`, no operation on tokens |
| a client identity | `spiffe://<trust domain>/client/<name>`, at most 320 characters |
| `token_id` | `tok_` and 32 hexadecimal digits |

Deliberately absent: rules between fields, which are the token's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.reserved_names import (
    is_reserved_domain,
    is_reserved_identity,
    is_token_operation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DOMAINS: Final = 64
MAX_METHODS_PER_DOMAIN: Final = 256
MAX_CLIENT_IDENTITIES: Final = 64

_IDENTITY: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,126}[A-Za-z0-9])?", re.ASCII)
_CAPABILITY: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/ -]{0,126}[A-Za-z0-9])?", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{32}", re.ASCII)
# SPIFFE-ID, sections 2.1 and 2.2: a trust domain is lower case, a path segment may be mixed.
_CLIENT_IDENTITY: Final = re.compile(
    r"spiffe://[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?/client/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,63})",
    re.ASCII,
)
_MAX_CLIENT_IDENTITY_CHARACTERS: Final = 320


def check_identity(field: str, name: str) -> None:
    """Hold the name of a user or an issuer to its rule.

    Raises:
        IssueRefused: the name is malformed or reserved.
    """
    if _IDENTITY.fullmatch(name) is None:
        raise IssueRefused(
            field, "must be 1 to 128 of A-Z a-z 0-9 . _ @ - with a letter or digit at both ends"
        )
    if is_reserved_identity(name):
        raise IssueRefused(field, f"{name!r} is reserved: no part of the machinery holds a token")


def check_capability(label: str) -> None:
    """Hold the label to its rule. It grants nothing.

    Raises:
        IssueRefused: the label is malformed.
    """
    if _CAPABILITY.fullmatch(label) is None:
        raise IssueRefused(
            "capability",
            "must be 1 to 128 of A-Z a-z 0-9 . _ : / - and space with a letter or digit at both "
            "ends",
        )


def check_domain_scope(domains: Sequence[str]) -> None:
    """Hold an explicit list of domains to its rule.

    Raises:
        IssueRefused: the list is empty, too long, or has a malformed, reserved or repeated name.
    """
    field = "domain_scope"
    _check_list(field, domains, MAX_DOMAINS)
    for domain in domains:
        _check_name(field, domain)
        if is_reserved_domain(domain):
            raise IssueRefused(field, f"{domain!r} is reserved: no token reaches the machinery")


def check_methods(domain: str, methods: Sequence[str]) -> None:
    """Hold the explicit list of a domain's methods to its rule.

    Raises:
        IssueRefused: the list is empty, too long, or has a malformed or repeated name, or one of an
            operation on tokens.
    """
    field = f"method_scope.{domain}"
    _check_list(field, methods, MAX_METHODS_PER_DOMAIN)
    for method in methods:
        _check_name(field, method)
        if is_token_operation(method):
            raise IssueRefused(field, f"{method!r} is reserved: no token grants token operations")


def check_client_identities(identities: Sequence[str], *, trust_domain: str | None) -> None:
    """Hold the callers that may use a token to their rule; the list may be empty.

    With a `trust_domain`, every identity must be of that one.

    Raises:
        IssueRefused: the list is too long, or has a malformed, foreign or repeated identity.
    """
    field = "client_identities"
    if identities:
        _check_list(field, identities, MAX_CLIENT_IDENTITIES)
    for identity in identities:
        if (
            len(identity) > _MAX_CLIENT_IDENTITY_CHARACTERS
            or _CLIENT_IDENTITY.fullmatch(identity) is None
        ):
            raise IssueRefused(field, "must be of the form spiffe://<trust domain>/client/<name>")
        if trust_domain is not None and not identity.startswith(f"spiffe://{trust_domain}/"):
            raise IssueRefused(field, f"must be in the trust domain {trust_domain}")


def check_token_id(token_id: str) -> None:
    """Hold the public reference to its rule.

    Raises:
        IssueRefused: it is malformed.
    """
    if _TOKEN_ID.fullmatch(token_id) is None:
        raise IssueRefused("token_id", "must be tok_ and 32 hexadecimal digits")


def _check_name(field: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise IssueRefused(field, f"every name must match {_NAME.pattern}")


def _check_list(field: str, names: Sequence[str], most: int) -> None:
    if not names:
        raise IssueRefused(field, "must not be empty: nothing is granted by silence")
    if len(names) > most:
        raise IssueRefused(field, f"must have at most {most} entries")
    if len(set(names)) != len(names):
        raise IssueRefused(field, "must not name anything twice")
