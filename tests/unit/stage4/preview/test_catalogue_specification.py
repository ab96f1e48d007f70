"""`docs/spec/catalogue.md` decides: its example is verified by code that shares none with ours."""

from __future__ import annotations

import base64
import json
import re
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from servicekit.store.log_verifier import LogVerifier
from stage4_service.preview.catalogue import CATALOGUE_FORMAT, MAX_CATALOGUE_BYTES, open_catalogue
from tests.harness.catalogues import KEY, signed_catalogue

PAGE = (Path(__file__).resolve().parents[4] / "docs/spec/catalogue.md").read_text("utf-8")
VKEY = re.findall(r"public line is `(\S+)`", PAGE)[0]
EXAMPLE = re.findall(r"(?ms)^```catalogue\n(.*?)^```$", PAGE)[0].encode()


def test_the_example_is_as_the_page_says() -> None:
    """Three parts, a signature over the first, its last line the digest of the third."""
    text, signatures, catalogue = EXAMPLE.split(b"\n\n")
    lines = text.decode().split("\n")
    name, identifier, encoded = VKEY.split("+", 2)
    public = base64.b64decode(encoded)
    signature = base64.b64decode(signatures.split(b" ")[2])

    assert lines[0] == CATALOGUE_FORMAT
    assert lines[1] == name
    assert lines[5] == f"sha256:{sha256(catalogue[:-1]).hexdigest()}"
    assert signature[:4].hex() == identifier
    assert sha256(name.encode() + b"\n" + public).hexdigest().startswith(identifier)
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], text + b"\n")


def test_both_services_agree_with_the_example() -> None:
    """What is written today is these bytes, and what is read is what they say."""
    assert KEY.vkey == VKEY
    assert signed_catalogue(size=0) == EXAMPLE
    read = open_catalogue(EXAMPLE, LogVerifier(VKEY))
    assert list(read.domains) == ["text"]
    assert f"{MAX_CATALOGUE_BYTES:,} bytes" in PAGE


def test_the_example_has_every_member_that_the_page_lists() -> None:
    """And the page lists no other."""
    tables = {
        heading: {
            name
            for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", rows, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", row)
        }
        for heading, rows in re.findall(r"(?ms)^\| (member[^|]*) \|.*?\n(.*?)\n\n", PAGE)
    }
    (domain,) = json.loads(EXAMPLE.split(b"\n\n")[2])["domains"]

    assert tables == {
        "member": {"domains"},
        "member of a domain": set(domain),
        "member of a method": set(domain["methods"][0]),
    }
