"""Who a connection's peer is, and whether its certificate has expired, asked of every call.

A handshake asks whether a certificate is valid once, and a connection may stay open for months
after. Here every call asks again. Parsing is done once for each certificate and remembered, within
a bound; the names it is remembered under are all that an answer depends on, and the answer's only
further input, the time, is never remembered.

Deliberately absent: the beginning of a certificate's life, which the handshake asked and which only
a clock that was set back can undo: that must not shut out the operators who are needed then. Also
revocation lists, and trust in a certificate that no handshake has verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509

from servicekit.serving.identity import Identity, IdentityRefused, certified_identity

REMEMBERED_MAX: Final = 1024
"""Certificates remembered per listener, about 2 KB each; more callers than that are parsed anew."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Peer:
    identity: Identity
    expires_us: int


class PeerCertificates:
    """Answers for the callers of one trust domain. Any thread may ask."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain
        # What is refused raises, and is not remembered: strangers fill nothing.
        self._peer = lru_cache(maxsize=REMEMBERED_MAX)(self._read)

    def identity(self, auth_context: Mapping[str, Sequence[bytes]], now_us: int) -> Identity:
        """Return the caller that a verified TLS 1.3 peer certificate names, until it expires.

        The TLS version is asked here because gRPC lets a server only observe it, never choose it.

        Raises:
            IdentityRefused: no TLS 1.3, no certificate, one that has expired at `now_us`, not
                exactly one SAN, or not a known identity.
        """
        if list(auth_context.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
            description = "the connection is not TLS 1.3"
            raise IdentityRefused(description)
        peer = self._peer(
            tuple(auth_context.get("x509_pem_cert", ())),
            tuple(auth_context.get("peer_uri", ())),
            tuple(auth_context.get("x509_subject_alternative_name", ())),
        )
        if now_us >= peer.expires_us:
            description = f"the certificate of {peer.identity.uri} has expired"
            raise IdentityRefused(description)
        return peer.identity

    def _read(
        self, pem: tuple[bytes, ...], uris: tuple[bytes, ...], names: tuple[bytes, ...]
    ) -> _Peer:
        identity = certified_identity(uris, names, self._trust_domain)
        if len(pem) != 1:
            description = "the connection shows no certificate whose expiry could be asked"
            raise IdentityRefused(description)
        try:
            certificate = x509.load_pem_x509_certificate(pem[0])
        except ValueError:
            description = "the certificate cannot be read"
            raise IdentityRefused(description) from None
        return _Peer(identity, (certificate.not_valid_after_utc - _EPOCH) // _MICROSECOND)
