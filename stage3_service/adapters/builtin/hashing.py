"""The builtin domain `hashing`: digests of texts and of bytes.

Guards nothing: a digest of public bytes is public. Deliberately absent: keyed digests. A parameter
of a plan is no place for a key.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Annotated, Final

from pydantic import Field

from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import MethodRefused, Parameters, example
from stage3_service.adapters.builtin.pure_domain import PureDomain, pure_method

_MAX_TEXT_CHARACTERS: Final = 65_536
_RESULT_BYTES: Final = 192


class TextParameters(Parameters):
    """Parameters of the methods that hash the UTF-8 of a text."""

    text: Annotated[str, Field(max_length=_MAX_TEXT_CHARACTERS)]


class BytesParameters(Parameters):
    """Parameters of the methods that hash bytes, which come as padded base64 (RFC 4648, 4)."""

    base64: Annotated[str, Field(max_length=_MAX_TEXT_CHARACTERS)]


def sha256(parameters: TextParameters) -> JsonValue:
    """Return the SHA-256 of the text's UTF-8 bytes."""
    return {"sha256": hashlib.sha256(parameters.text.encode()).hexdigest()}


def sha512(parameters: TextParameters) -> JsonValue:
    """Return the SHA-512 of the text's UTF-8 bytes."""
    return {"sha512": hashlib.sha512(parameters.text.encode()).hexdigest()}


def blake2b(parameters: TextParameters) -> JsonValue:
    """Return the BLAKE2b-512 (RFC 7693) of the text's UTF-8 bytes."""
    return {"blake2b": hashlib.blake2b(parameters.text.encode()).hexdigest()}


def sha256_bytes(parameters: BytesParameters) -> JsonValue:
    """Return the SHA-256 of the bytes."""
    return {"sha256": hashlib.sha256(_decoded(parameters.base64)).hexdigest()}


def sha512_bytes(parameters: BytesParameters) -> JsonValue:
    """Return the SHA-512 of the bytes."""
    return {"sha512": hashlib.sha512(_decoded(parameters.base64)).hexdigest()}


def blake2b_bytes(parameters: BytesParameters) -> JsonValue:
    """Return the BLAKE2b-512 (RFC 7693) of the bytes."""
    return {"blake2b": hashlib.blake2b(_decoded(parameters.base64)).hexdigest()}


def _decoded(base64: str) -> bytes:
    try:
        decoded = binascii.a2b_base64(base64.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MethodRefused("base64: is not padded base64 without white space") from None
    # One spelling for one value: bits beyond the last byte must be zero.
    if binascii.b2a_base64(decoded, newline=False).decode() != base64:
        raise MethodRefused("base64: is not the canonical spelling of its bytes")
    return decoded


_ABC_SHA256: Final = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
_ABC_SHA512: Final = (
    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)
_ABC_BLAKE2B: Final = (
    "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
    "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
)

HASHING: Final = PureDomain(
    "hashing",
    pure_method(
        sha256,
        TextParameters,
        "SHA-256 of a text's UTF-8.",
        _RESULT_BYTES,
        example({"text": "abc"}, {"sha256": _ABC_SHA256}),
    ),
    pure_method(
        sha512,
        TextParameters,
        "SHA-512 of a text's UTF-8.",
        _RESULT_BYTES,
        example({"text": "abc"}, {"sha512": _ABC_SHA512}),
    ),
    pure_method(
        blake2b,
        TextParameters,
        "BLAKE2b-512 of a text's UTF-8.",
        _RESULT_BYTES,
        example({"text": "abc"}, {"blake2b": _ABC_BLAKE2B}),
    ),
    pure_method(
        sha256_bytes,
        BytesParameters,
        "SHA-256 of bytes in base64.",
        _RESULT_BYTES,
        example({"base64": "YWJj"}, {"sha256": _ABC_SHA256}),
    ),
    pure_method(
        sha512_bytes,
        BytesParameters,
        "SHA-512 of bytes in base64.",
        _RESULT_BYTES,
        example({"base64": "YWJj"}, {"sha512": _ABC_SHA512}),
    ),
    pure_method(
        blake2b_bytes,
        BytesParameters,
        "BLAKE2b-512 of bytes in base64.",
        _RESULT_BYTES,
        example({"base64": "YWJj"}, {"blake2b": _ABC_BLAKE2B}),
    ),
)
"""The domain itself."""
