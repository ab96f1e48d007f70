"""Signed notes and checkpoints: one spelling, and nothing that is not signed is believed."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from servicekit.store.log_key import LogKey
from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    encode_checkpoint,
    parse_checkpoint,
)
from servicekit.tlog.note import NoteRefused, key_id, open_note, parse_vkey, sign_note, vkey
from servicekit.tlog.tree import EMPTY_ROOT

KEY = LogKey("example.test/stage3", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = LogKey("example.test/stage3", Ed25519PrivateKey.from_private_bytes(bytes(32)))
TEXT = encode_checkpoint(Checkpoint("example.test/stage3", 7, EMPTY_ROOT))

# The public example of c2sp.org/signed-note.
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqd"
    "ngotpRZb6KE6RyyBwJnAM=\n"
)


class PublicKey:
    """Verify with a public key alone, as a stranger would."""

    def __init__(self, line: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        self.name, identifier, encoded = line.split("+", 2)
        raw = base64.b64decode(encoded)
        assert raw[0] == 1
        self.raw = raw[1:]
        self.key_id = bytes.fromhex(identifier)
        self._key = Ed25519PublicKey.from_public_bytes(self.raw)

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Return whether the signature is of this text."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, text)
        except InvalidSignature:
            return False
        return True


def test_the_published_example_is_understood() -> None:
    """Key identifier, verifier line and signature are those of the specification."""
    peter = PublicKey(PETER_VKEY)

    assert key_id(peter.name, peter.raw) == peter.key_id
    assert vkey(peter.name, peter.raw) == PETER_VKEY
    assert open_note(PETER_NOTE.encode(), peter) == PETER_NOTE.partition("\n\n")[0] + "\n"


def test_a_stranger_verifies_with_the_printed_line_alone() -> None:
    """What `vkey` says is enough, and the note is the same bytes each time."""
    note = sign_note(TEXT, KEY)

    assert note == sign_note(TEXT, KEY)
    assert open_note(note, PublicKey(KEY.vkey)) == TEXT


def test_the_printed_line_is_read_back() -> None:
    """Name, identifier and key; what it opens is what a stranger opens."""
    peter = PublicKey(PETER_VKEY)

    assert parse_vkey(PETER_VKEY) == (peter.name, peter.key_id, peter.raw)
    assert open_note(PETER_NOTE.encode(), LogVerifier(PETER_VKEY)).startswith("If you think")
    assert open_note(sign_note(TEXT, KEY), LogVerifier(KEY.vkey)) == TEXT
    with pytest.raises(NoteRefused, match="not of this text"):
        open_note(PETER_NOTE.replace("crypto", "steno").encode(), LogVerifier(PETER_VKEY))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "name",
        "a+b+c",
        PETER_VKEY + "\n",
        " " + PETER_VKEY,
        PETER_VKEY.replace("c74f20a3", "C74F20A3"),
        PETER_VKEY.replace("c74f20a3", "c74f20a4"),
        PETER_VKEY.replace("PeterNeumann", "Peter Neumann"),
        PETER_VKEY.replace("PeterNeumann", ""),
        PETER_VKEY.replace("+AR", "+Ah"),  # another kind of key
        PETER_VKEY[:-4],
        PETER_VKEY + "AAAA",
        PETER_VKEY[:-1] + "\u00e9",
    ],
)
def test_a_line_that_is_no_key_is_refused(line: str) -> None:
    """One key has one line, and nothing else is taken for it."""
    with pytest.raises(ValueError, match="it is not NAME"):
        LogVerifier(line)


def test_every_changed_byte_is_refused() -> None:
    """No bit of text, name, identifier or signature can be flipped."""
    note = sign_note(TEXT, KEY)
    for at in range(len(note)):
        for bit in range(8):
            changed = note[:at] + bytes([note[at] ^ 1 << bit]) + note[at + 1 :]
            with pytest.raises(NoteRefused):
                open_note(changed, KEY)


def test_another_keys_signature_does_not_do() -> None:
    """The same name with another key is another signer; beside the right one it is ignored."""
    note, other = sign_note(TEXT, KEY), sign_note(TEXT, OTHER)
    with pytest.raises(NoteRefused, match="not signed by"):
        open_note(other, KEY)
    line = other.rpartition(b"\n\n")[2]
    assert open_note(note + line, KEY) == TEXT
    assert open_note(note + line, OTHER) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff",
        b"text\n",
        b"text\n\n",
        b"text\n\nno signature\n",
        "text\n\n\u2014 name\n".encode(),
        "text\n\n\u2014 name !!!!\n".encode(),
        "text\n\n\u2014 name AAAA\n".encode(),
        "text\n\n\u2014 name AAAAAAA\u00e9\n".encode(),
        "text\n\n\u2014 a+b AAAAAAAA\n".encode(),
        sign_note(TEXT, KEY)[:-1],
        b"a" * 70_000,
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    """Whatever was written over the file, it is refused and not misread."""
    with pytest.raises(NoteRefused):
        open_note(note, KEY)


@pytest.mark.parametrize("text", ["", "no line feed", "a\tb\n", "a\r\n"])
def test_a_text_that_cannot_be_signed_is_refused(text: str) -> None:
    """A note is whole lines without control characters."""
    with pytest.raises(ValueError, match="whole lines"):
        sign_note(text, KEY)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "\u00e9"])
def test_a_name_that_no_key_has_is_refused(name: str) -> None:
    """White space and plus signs would be ambiguous in a note."""
    with pytest.raises(ValueError, match="cannot name"):
        key_id(name, bytes(32))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_do_anything_but_refuse(data: bytes) -> None:
    """There is one exception, whatever is in the file."""
    with pytest.raises(NoteRefused):
        open_note(data, KEY)


@given(st.integers(0, 10**18 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_read_as_it_was_written(size: int, root: bytes) -> None:
    """Writing and reading are each other's inverse."""
    checkpoint = Checkpoint("example.test/stage3", size, root)

    assert parse_checkpoint(encode_checkpoint(checkpoint)) == checkpoint


_ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n1\n" + _ROOT + "\n",
        "log\n1\n" + _ROOT,
        "log\n01\n" + _ROOT + "\n",
        "log\n-1\n" + _ROOT + "\n",
        "log\n+1\n" + _ROOT + "\n",
        "log\n1 \n" + _ROOT + "\n",
        "log\n\u0661\n" + _ROOT + "\n",
        "log\n1\n" + _ROOT[:-1] + "\n",
        "log\n1\n" + _ROOT[:-2] + "B=\n",
        "log\n1\n" + base64.b64encode(bytes(31)).decode() + "\n",
        "log\n1\n" + _ROOT + "\nextension\n",
        "log\n1\n" + _ROOT + "\n\n",
    ],
)
def test_another_spelling_of_a_checkpoint_is_refused(text: str) -> None:
    """One checkpoint has one text."""
    with pytest.raises(CheckpointInvalid):
        parse_checkpoint(text)
