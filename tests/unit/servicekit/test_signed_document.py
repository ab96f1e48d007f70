"""A document below a signed note: whole and by the key that was asked for, or not read at all."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from servicekit.store.log_key import LogKey
from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.checkpoint import Checkpoint, encode_checkpoint
from servicekit.tlog.note import NoteRefused, open_note, sign_note
from servicekit.tlog.signed_document import (
    DocumentChanged,
    open_document,
    sign_document,
    signed_bytes_at_most,
)
from servicekit.tlog.tree import EMPTY_ROOT

KEY = LogKey("example.test/stage3", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = LogKey("example.test/stage3", Ed25519PrivateKey.from_private_bytes(bytes(32)))
VERIFIER = LogVerifier(KEY.vkey)
HEAD = "example/statement/v1\n7\n"
DOCUMENT = b'{"a":1}'
SIGNED = sign_document(HEAD, DOCUMENT, KEY)
MOST = 1000


def refused(signed: bytes) -> bool:
    """Say whether nothing of it is believed."""
    try:
        open_document(signed, VERIFIER, max_document_bytes=MOST)
    except NoteRefused:
        return True
    return False


@given(st.binary(max_size=MOST))
def test_what_was_signed_is_what_is_opened(document: bytes) -> None:
    """Any bytes, those that look like a note among them, and the same bytes each time."""
    signed = sign_document(HEAD, document, KEY)

    assert signed == sign_document(HEAD, document, KEY)
    assert open_document(signed, VERIFIER, max_document_bytes=MOST) == (HEAD, document)


def test_every_flipped_bit_is_refused() -> None:
    """In the head, the digest, the signature, the document and the lines between them."""
    for at in range(len(SIGNED)):
        for bit in range(8):
            changed = SIGNED[:at] + bytes([SIGNED[at] ^ 1 << bit]) + SIGNED[at + 1 :]
            assert refused(changed), (at, bit)


def test_whatever_is_cut_or_added_is_refused() -> None:
    """Every beginning, and one byte or one line more at the end."""
    assert not refused(SIGNED)
    for length in range(len(SIGNED)):
        assert refused(SIGNED[:length]), length
    for more in (b"\n", b" ", b"\n\n", DOCUMENT, SIGNED):
        assert refused(SIGNED + more), more


def test_two_notes_are_not_one() -> None:
    """Neither before, nor below, nor with the document of the other."""
    another = sign_document(HEAD, b'{"a":2}', KEY)
    note, document = SIGNED.rsplit(b"\n\n", 1)
    other_note, other_document = another.rsplit(b"\n\n", 1)

    for mixed in (
        note + b"\n\n" + other_document,
        other_note + b"\n\n" + document,
        note + b"\n\n" + SIGNED,
        note + b"\n\n" + another,
        b"\n\n".join((note, other_note, document)),
        b"\n\n".join((other_note, note, document)),
    ):
        assert refused(mixed), mixed


def test_the_note_alone_would_not_notice_another_document() -> None:
    """The control: its signature is good, and only the digest tells the document."""
    changed = SIGNED.replace(DOCUMENT, b'{"a":2}')
    note = changed.rsplit(b"\n\n", 1)[0] + b"\n"

    assert open_note(note, VERIFIER).startswith(HEAD)
    with pytest.raises(DocumentChanged):
        open_document(changed, VERIFIER, max_document_bytes=MOST)


def test_another_key_of_the_same_name_does_not_do() -> None:
    """Who signed is the key; beside the right one its line is ignored."""
    foreign = sign_document(HEAD, DOCUMENT, OTHER)
    assert refused(foreign)
    line = foreign.split(b"\n\n")[1]
    note, document = SIGNED.rsplit(b"\n\n", 1)

    assert not refused(note + b"\n" + line + b"\n\n" + document)


def test_without_its_check_the_other_key_would_do() -> None:
    """The control: the file is refused for its key and for nothing else."""
    foreign = sign_document(HEAD, DOCUMENT, OTHER)

    opened = open_document(foreign, LogVerifier(OTHER.vkey), max_document_bytes=MOST)
    assert opened == (HEAD, DOCUMENT)


def test_another_statement_of_the_key_is_no_document() -> None:
    """A checkpoint, and a note that names no digest, even with the document below them."""
    checkpoint = sign_note(encode_checkpoint(Checkpoint(KEY.name, 7, EMPTY_ROOT)), KEY)

    assert refused(checkpoint)
    assert refused(checkpoint + b"\n" + DOCUMENT + b"\n")


def test_what_is_too_long_is_not_looked_at() -> None:
    """The bound is on the whole, before anything is verified."""
    longest = sign_document(HEAD, b"a" * MOST, KEY)
    padded = longest + b"a" * (signed_bytes_at_most(MOST) - len(longest) + 1)

    assert not refused(longest)
    with pytest.raises(NoteRefused, match="longer than"):
        open_document(padded, VERIFIER, max_document_bytes=MOST)


@pytest.mark.parametrize("head", ["", "\n", "a\n\nb\n", "\na\n", "no line feed", "a\tb\n"])
def test_a_head_that_could_be_misread_is_not_signed(head: str) -> None:
    """Whole lines, none of them empty, without control characters."""
    with pytest.raises(ValueError, match=r"head|note"):
        sign_document(head, DOCUMENT, KEY)
