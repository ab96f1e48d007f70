"""What a domain elsewhere says about itself, as one value that can be pinned and compared.

Guards against a domain that changes under an operator's feet: what it showed when it was accepted
is a digest, and what it shows now either has that digest or does not. Deliberately absent: what an
adapter puts into the document, how it was fetched, where what was accepted is kept, and any notion
of a change that is harmless. A description that people or models act upon is part of the promise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Protocol

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse

MAX_DEFINITION_BYTES: Final = 1_048_576
"""A mebibyte describes hundreds of methods; it is kept in the store and shown to an operator."""

_LIMITS: Final = JsonLimits(
    max_bytes=MAX_DEFINITION_BYTES,
    max_values=100_000,
    max_key_bytes=1024,
    max_string_bytes=MAX_DEFINITION_BYTES,
)


class DefinitionUnavailable(Exception):
    """A domain shows no definition that could be accepted; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a domain shows: the RFC 8785 form of one JSON document, and that form's digest.

    `digest` is SHA-256 in lower-case hexadecimal. Two definitions are equal when their digests are.
    """

    document_json: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, document: JsonValue) -> Definition:
        """Return the definition that a document is.

        Raises:
            DefinitionUnavailable: the document has no canonical form, is too large or too deep.

        """
        try:
            document_json = canonicalize(document)
            # Read back by the limits that `document` will read it by.
            parse(document_json, _LIMITS)
        except JsonRefused as refused:
            raise DefinitionUnavailable(
                f"what the domain shows of itself is refused: {refused.description}"
            ) from refused
        except ValueError as refused:
            raise DefinitionUnavailable(
                f"what the domain shows of itself has no canonical form: {refused}"
            ) from refused
        return cls(document_json, sha256(document_json).hexdigest())

    @classmethod
    def read(cls, document_json: bytes) -> Definition:
        """Return the definition whose canonical bytes were kept.

        Raises:
            DefinitionUnavailable: the bytes are not the canonical form of a definition.

        """
        try:
            document = parse(document_json, _LIMITS).value
        except JsonRefused as refused:
            raise DefinitionUnavailable(
                f"a kept definition cannot be read: {refused.description}"
            ) from refused
        definition = cls.of(document)
        if definition.document_json != document_json:
            raise DefinitionUnavailable("a kept definition is not in canonical form")
        return definition

    @property
    def document(self) -> JsonValue:
        """The document, as a new value that its reader owns."""
        return parse(self.document_json, _LIMITS).value


class Describing(Protocol):
    """An adapter that can ask its domain what it is. Never part of a plan, and without effect."""

    def describe(self) -> Definition:
        """Fetch what the domain shows now, whether or not it was accepted.

        It may start what the domain runs in and takes at most the adapter's start-up time.

        Raises:
            DefinitionUnavailable: the domain is not reached, lacks a method that the declarations
                map, or shows what cannot be canonical.

        """
        ...


class AcceptedDefinitions(Protocol):
    """What an operator has accepted. Safe to ask from any thread, without waiting for a commit."""

    def is_accepted(self, domain: str, digest: str) -> bool:
        """Say whether this digest is the one accepted for the domain.

        An adapter asks at each new session and whenever its domain says that it has changed, before
        it sends any call. An implementation may remember the digest as the last one seen: that is
        what lets gate 2 refuse a drifted domain before a step is started.
        """
        ...

    def accepted(self, domain: str) -> Definition | None:
        """Return what was accepted for the domain, or None before anything was."""
        ...


def difference(accepted: Definition | None, shown: Definition) -> tuple[str, ...]:
    """Name each value that differs as `- path: value` and `+ path: value`, ordered by path.

    None is the definition of nothing. Equal definitions give no line. Values are ASCII JSON, so
    that neither a control character nor a look-alike of a domain's making reaches a terminal.
    """
    before = {} if accepted is None else dict(_leaves(accepted.document, ()))
    after = dict(_leaves(shown.document, ()))
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        name = ".".join(path)
        lines += [
            f"{sign} {name}: {side[path]}"
            for sign, side in (("-", before), ("+", after))
            if path in side
        ]
    return tuple(lines)


def _leaves(value: JsonValue, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, _segment(key)))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(index)))
    else:
        yield path, json.dumps(value)


def _segment(key: str) -> str:
    shown = json.dumps(key)[1:-1]
    if not set(shown) & {".", "`"}:
        return shown
    return "`" + shown.replace("`", "``") + "`"
