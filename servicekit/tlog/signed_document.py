"""Guard a document too long for a note: a note that names it by its digest, and then itself.

```
<head: lines without an empty one>
sha256:<64 lower-case hexadecimal digits, of the document's bytes>
<empty line>
<signatures, as c2sp.org/signed-note has them>
<empty line>
<the document, any bytes>
<line feed>
```

Whoever opens one looks at no byte of the document before the signature and the digest are good.
Deliberately absent: any idea of what head and document say. The first line of a head should say
what kind of statement this is: the same key signs others.
"""

from hashlib import sha256
from typing import Final

from servicekit.tlog.note import (
    MAX_NOTE_BYTES,
    NoteRefused,
    NoteSigner,
    NoteVerifier,
    open_note,
    sign_note,
)

__all__ = ["DocumentChanged", "open_document", "sign_document", "signed_bytes_at_most"]

_DIGEST: Final = "sha256:"
_EMPTY_LINE: Final = b"\n\n"


class DocumentChanged(NoteRefused):
    """The note is good, and what lies below it is not what it names."""


def signed_bytes_at_most(document_bytes: int) -> int:
    """Return how long a signed document of so many bytes can be."""
    return MAX_NOTE_BYTES + 1 + document_bytes + 1


def sign_document(head: str, document: bytes, signer: NoteSigner) -> bytes:
    """Return the note about the document, and the document below it; the same bytes each time.

    Raises:
        ValueError: the head is empty, has an empty line or a control character, or does not end
            with a line feed.
    """
    if not head.endswith("\n") or not all(head.removesuffix("\n").split("\n")):
        raise ValueError("a head is whole lines, none of them empty")
    note = sign_note(f"{head}{_DIGEST}{sha256(document).hexdigest()}\n", signer)
    return note + b"\n" + document + b"\n"


def open_document(
    signed: bytes, verifier: NoteVerifier, *, max_document_bytes: int
) -> tuple[str, bytes]:
    """Return the head and the document that `verifier`'s key signed together.

    Raises:
        DocumentChanged: the document is longer, or another one, than the signed note says.
        NoteRefused: it is no signed document, or not signed by this key.
    """
    if len(signed) > signed_bytes_at_most(max_document_bytes):
        raise NoteRefused(f"it is longer than {signed_bytes_at_most(max_document_bytes)} bytes")
    text, found, rest = signed.partition(_EMPTY_LINE)
    signatures, found_too, document = rest.partition(_EMPTY_LINE)
    if not found or not found_too:
        raise NoteRefused("it is not a signed note with a document below it")
    opened = open_note(text + _EMPTY_LINE + signatures + b"\n", verifier)
    head, _, named = opened.removesuffix("\n").rpartition("\n")
    digest = sha256(document.removesuffix(b"\n")).hexdigest()
    if not document.endswith(b"\n") or named != f"{_DIGEST}{digest}":
        raise DocumentChanged("the document below the signature is not the one that was signed")
    return head + "\n", document[:-1]
