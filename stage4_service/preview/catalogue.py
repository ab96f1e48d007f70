"""A signed catalogue as a value: who said when, and which methods were offered.

Guards that nothing is read before it is known who signed it: the signature covers a digest, the
digest the bytes, and only then are they parsed, strictly and within limits. The form is
docs/spec/catalogue.md; Stage-3 writes it with code of its own. Deliberately absent: members that
the form does not have, and a guess at what another version of it might mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from servicekit.tlog.checkpoint import CheckpointInvalid, parse_checkpoint
from servicekit.tlog.note import NoteRefused, NoteVerifier
from servicekit.tlog.signed_document import DocumentChanged, open_document

MAX_CATALOGUE_BYTES: Final = 8_388_608
"""Stage-3 signs none that is longer."""

CATALOGUE_FORMAT: Final = "stagegate/catalogue/v1"
_FORMATS: Final = "stagegate/catalogue/"
_HEAD_LINES: Final = 5
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_LIMITS: Final = JsonLimits(
    max_bytes=MAX_CATALOGUE_BYTES,
    max_depth=64,
    max_values=1_000_000,
    max_key_bytes=1024,
    max_string_bytes=1_048_576,
)

Schema: TypeAlias = "dict[str, JsonValue]"
_NONE: Final = type(None)


class CatalogueRefused(ValueError):
    """What is there is no catalogue to be believed; `advice` says what to do next."""

    def __init__(self, message: str, advice: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class DeclaredMethod:
    """What one method declares; the schema is the one in force, None where there is none."""

    name: str
    description: str
    max_duration_ms: int
    max_response_bytes: int
    repetition: str
    parameters_schema: Schema | None


@dataclass(frozen=True, slots=True)
class DeclaredDomain:
    """One domain, and whether its steps could start at the time."""

    name: str
    adapter: str
    offered: bool
    accepted_digest: str | None
    shown_digest: str | None
    methods: Mapping[str, DeclaredMethod]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What Stage-3 offered at one moment.

    `digest` is that of the catalogue alone: equal offers have equal digests. Every acceptance in
    it is among the first `tree_size` entries of the log `origin`, whose root is `root`, in
    hexadecimal.
    """

    digest: str
    exported_at: str
    origin: str
    tree_size: int
    root: str
    domains: Mapping[str, DeclaredDomain]


_EXPORT: Final = "Ask for a new one: `stage3 domain export --output FILE`."
_KEY: Final = (
    "Do not use it. Compare the verifier key with the one that `stage3 audit checkpoint` prints, "
    "and ask for a new file."
)
_VERSION: Final = "Use a stage4 of Stage-3's version, and a file that this Stage-3 exports."


def open_catalogue(signed: bytes, verifier: NoteVerifier) -> Catalogue:
    """Return the catalogue that `verifier`'s key signed.

    Raises:
        CatalogueRefused: it is no signed catalogue, of another key, changed, or of a form that this
            program does not know.
    """
    try:
        head, document = open_document(signed, verifier, max_document_bytes=MAX_CATALOGUE_BYTES)
    except DocumentChanged as refused:
        raise CatalogueRefused(str(refused), _KEY) from refused
    except NoteRefused as refused:
        raise CatalogueRefused(str(refused), _KEY if b"\n\n" in signed else _EXPORT) from refused
    lines = head.split("\n")[:-1]
    if lines[0] != CATALOGUE_FORMAT:
        known = lines[0].startswith(_FORMATS)
        what = f"it is {lines[0]}" if known else "it is another statement of this key"
        raise CatalogueRefused(
            f"{what}, and not {CATALOGUE_FORMAT}", _VERSION if known else _EXPORT
        )
    try:
        checkpoint = parse_checkpoint("".join(f"{line}\n" for line in lines[1:-1]))
        parsed = parse(document, _LIMITS).value
    except (CheckpointInvalid, JsonRefused) as refused:
        raise CatalogueRefused(f"it is malformed: {refused}", _VERSION) from refused
    if len(lines) != _HEAD_LINES or not _INSTANT.fullmatch(lines[-1]):
        raise CatalogueRefused("it does not say when it was exported", _VERSION)
    if checkpoint.origin != verifier.name:
        raise CatalogueRefused(f"it is of another log, {checkpoint.origin}", _KEY)
    return Catalogue(
        digest=sha256(document).hexdigest(),
        exported_at=lines[-1],
        origin=checkpoint.origin,
        tree_size=checkpoint.size,
        root=checkpoint.root.hex(),
        domains=_by_name(_members(parsed, {"domains": (list,)})["domains"], _domain),
    )


def _domain(value: JsonValue) -> DeclaredDomain:
    members = _members(
        value,
        {
            "name": (str,),
            "adapter": (str,),
            "offered": (bool,),
            "accepted_digest": (str, _NONE),
            "shown_digest": (str, _NONE),
            "methods": (list,),
        },
    )
    return DeclaredDomain(**{**members, "methods": _by_name(members["methods"], _method)})


def _method(value: JsonValue) -> DeclaredMethod:
    return DeclaredMethod(
        **_members(
            value,
            {
                "name": (str,),
                "description": (str,),
                "max_duration_ms": (int,),
                "max_response_bytes": (int,),
                "repetition": (str,),
                "parameters_schema": (dict, _NONE),
            },
        )
    )


def _by_name(values: list[JsonValue], read: Any) -> Mapping[str, Any]:  # noqa: ANN401 - one of two
    found = {}
    for value in values:
        item = read(value)
        if item.name in found:
            raise CatalogueRefused("it is malformed: a name stands twice", _VERSION)
        found[item.name] = item
    return MappingProxyType(found)


def _members(value: JsonValue, types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    # By exact type: a bool is an integer to Python and to nobody else.
    if (
        not isinstance(value, dict)
        or value.keys() != types.keys()
        or not all(type(value[name]) in allowed for name, allowed in types.items())
    ):
        raise CatalogueRefused("it is malformed: it has other members than the form", _VERSION)
    return value
