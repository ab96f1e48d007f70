"""A catalogue is believed whole, on the word of one key, in one form; else nothing of it is."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.canonical_json import canonicalize
from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.checkpoint import Checkpoint, encode_checkpoint
from servicekit.tlog.note import sign_note
from servicekit.tlog.signed_document import sign_document
from servicekit.tlog.tree import EMPTY_ROOT
from stage4_service.preview.catalogue import (
    MAX_CATALOGUE_BYTES,
    CatalogueRefused,
    DeclaredDomain,
    DeclaredMethod,
    open_catalogue,
)
from tests.harness.catalogues import (
    EXPORTED_AT,
    FOREIGN_KEY,
    KEY,
    ORIGIN,
    TEXT_SCHEMA,
    domain,
    head,
    method,
    signed_catalogue,
)

VERIFIER = LogVerifier(KEY.vkey)
SIGNED = signed_catalogue()


def refusal(signed: bytes) -> CatalogueRefused:
    """Return how it is refused, which it must be."""
    with pytest.raises(CatalogueRefused) as refused:
        open_catalogue(signed, VERIFIER)
    assert refused.value.advice
    return refused.value


def signed(document: bytes) -> bytes:
    """Return any bytes, signed as a catalogue is."""
    return sign_document(head(), document, KEY)


def test_a_catalogue_says_what_who_and_when() -> None:
    """Every member of the form, and the head of the log that it comes from."""
    catalogue = open_catalogue(
        signed_catalogue(
            domain("text"),
            domain(
                "far",
                method("run", parameters_schema=None),
                adapter="mcp",
                offered=False,
                accepted_digest="ab" * 32,
                shown_digest="cd" * 32,
            ),
        ),
        VERIFIER,
    )

    assert (catalogue.exported_at, catalogue.origin) == (EXPORTED_AT, ORIGIN)
    assert (catalogue.tree_size, catalogue.root) == (7, EMPTY_ROOT.hex())
    assert list(catalogue.domains) == ["text", "far"]
    assert catalogue.domains["text"].methods["upper"] == DeclaredMethod(
        "upper", "Turns a text into upper case.", 1000, 262_144, "idempotent", TEXT_SCHEMA
    )
    far = catalogue.domains["far"]
    assert isinstance(far, DeclaredDomain)
    assert (far.adapter, far.offered) == ("mcp", False)
    assert (far.accepted_digest, far.shown_digest) == ("ab" * 32, "cd" * 32)
    assert far.methods["run"].parameters_schema is None


def test_the_digest_is_that_of_the_offer_alone() -> None:
    """The same offer at another time has the same digest; another offer has not."""
    first = open_catalogue(SIGNED, VERIFIER)
    later = open_catalogue(signed_catalogue(size=9), VERIFIER)
    other = open_catalogue(signed_catalogue(domain(offered=False)), VERIFIER)

    assert first.digest == sha256(canonicalize({"domains": [domain()]})).hexdigest()
    assert first.digest == later.digest != other.digest


def test_every_flipped_bit_is_refused(record_property: Callable[[str, object], None]) -> None:
    """Wherever it is: in the head, the signature or the catalogue."""
    for at in range(len(SIGNED)):
        for bit in range(8):
            refusal(SIGNED[:at] + bytes([SIGNED[at] ^ 1 << bit]) + SIGNED[at + 1 :])
    record_property("figure", f"bits of a catalogue flipped: {8 * len(SIGNED):,}, believed: 0")


def test_every_truncation_is_refused() -> None:
    """Also where the signature is whole and the catalogue is not."""
    for length in range(len(SIGNED)):
        refusal(SIGNED[:length])


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: SIGNED + tail[:50]))
def test_no_bytes_do_more_than_be_refused(noise: bytes) -> None:
    """Whatever is in the file, it is refused with what to do next, or it is the catalogue."""
    if noise != SIGNED:
        refusal(noise)


def test_the_key_of_another_log_is_not_enough() -> None:
    """Neither another key of this name, nor this key in the name of another log."""
    assert "not signed by" in str(refusal(signed_catalogue(key=FOREIGN_KEY)))
    assert "another log" in str(refusal(signed_catalogue(origin="dev.test/stage4")))


def test_an_unsigned_catalogue_is_refused() -> None:
    """The bare document, and one below a text without a signature."""
    document = canonicalize({"domains": [domain()]})

    for bare in (b"", document, head().encode() + b"\n\n" + document + b"\n"):
        refusal(bare)


def test_another_form_is_told_apart_from_another_statement() -> None:
    """A later version needs a later program; a checkpoint is no catalogue at all."""
    later = refusal(signed_catalogue(form="stagegate/catalogue/v2"))
    assert "stagegate/catalogue/v2" in str(later)
    assert "version" in later.advice
    checkpoint = sign_note(encode_checkpoint(Checkpoint(ORIGIN, 7, EMPTY_ROOT)), KEY)
    refusal(checkpoint)
    other = sign_document(encode_checkpoint(Checkpoint(ORIGIN, 7, EMPTY_ROOT)), b"{}", KEY)
    assert "another statement" in str(refusal(other))


@pytest.mark.parametrize(
    "exported_at", ["yesterday", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000000+01:00"]
)
def test_one_that_does_not_say_when_is_refused(exported_at: str) -> None:
    """RFC 3339 in UTC with microseconds, as everywhere."""
    assert "when" in str(refusal(signed_catalogue(exported_at=exported_at)))


def test_further_lines_are_refused() -> None:
    """The form has five lines, and a sixth is another form."""
    refusal(sign_document(head() + "more\n", canonicalize({"domains": []}), KEY))
    refusal(sign_document("stagegate/catalogue/v1\n", canonicalize({"domains": []}), KEY))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"domains":[],"domains":[]}',
        b'{"domains":[],"more":1}',
        b'{"domains":[1]}',
        b'{"domains":{}}',
        b'{"domains":[{"name":"text"}]}',
        b"\xff",
        b'{"domains":NaN}',
        b'{"domains":' + b"[" * 100 + b"]" * 100 + b"}",
        canonicalize({"domains": [domain(), domain()]}),
        canonicalize({"domains": [domain("text", method(), method())]}),
        canonicalize({"domains": [domain(offered=1)]}),
        canonicalize({"domains": [{**domain(), "name": None}]}),
        canonicalize({"domains": [domain("text", method(max_duration_ms="1000"))]}),
        canonicalize({"domains": [domain("text", method(max_duration_ms=True))]}),
        canonicalize({"domains": [domain("text", method(max_duration_ms=1.5))]}),
        canonicalize({"domains": [domain("text", method(parameters_schema=[]))]}),
        canonicalize({"domains": [domain("text", method(example={}))]}),
    ],
)
def test_a_signed_document_of_another_form_is_refused(document: bytes) -> None:
    """Duplicate keys, members of no form, other types: a good signature makes none of it good."""
    assert "malformed" in str(refusal(signed(document)))


def test_one_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    """The bound holds for the file as a whole; a byte less is looked at."""
    assert "longer than" in str(refusal(SIGNED + b" " * (MAX_CATALOGUE_BYTES + 66_000)))
    assert "malformed" in str(refusal(signed(b"a" * MAX_CATALOGUE_BYTES)))
