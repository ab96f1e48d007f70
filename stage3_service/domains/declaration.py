"""What a domain declares about itself, and the one immutable catalogue of all declarations.

Guards the rule that only what is declared can be called: the gates look a method up here and find
it or do not. Deliberately absent: reading a declarations file (`domains.parse_declarations` and
`adapters.declarations_file`), compiling JSON Schema (a validator is handed in ready), and any way
to add to a catalogue after it was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol, Self

from servicekit.ijson import JsonValue
from stage3_service.domains.mcp_server import McpServer

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Form of a domain's and of a method's name, matched in full."""

MAX_DURATION_S = 300.0
"""No call is served for longer than this many seconds, so no method may claim more."""

MAX_RESPONSE_BYTES = 1_048_576
"""Bound of one response in bytes; the plan's own bound of 8 MiB is reserved from it."""


ELSEWHERE = frozenset({"grpc", "mcp"})
"""Adapters whose domains are programs of somebody else, which may change without being asked."""


class Repetition(StrEnum):
    """What a method promises when the same idempotency key reaches it again."""

    FENCING = "fencing"
    """The domain remembers the key: the effect happens once, the answer is the first one's."""
    IDEMPOTENT = "idempotent"
    """Running it again changes nothing further."""
    NEITHER = "neither"
    """Nothing is promised."""


class SchemaFault(NamedTuple):
    """Where in a schema something is wrong (keys, and indexes in decimal), and what."""

    location: tuple[str, ...]
    description: str

    @property
    def path(self) -> str:
        """The location in the notation of data bindings; empty for the schema as a whole."""
        return ".".join(_quoted(segment) for segment in self.location)

    def __str__(self) -> str:
        """Say it in one line for people."""
        return f"{self.path}: {self.description}" if self.location else self.description


class SchemaRefused(ValueError):
    """A JSON Schema cannot be enforced; `faults` says where and why, at least once."""

    def __init__(self, *faults: SchemaFault) -> None:
        """Keep every fault that was found."""
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class ParametersValidator(Protocol):
    """A compiled JSON Schema of parameters. Pure: the same value gives the same verdict."""

    def first_error(self, value: JsonValue) -> str | None:
        """Name the first offence as `path: description`, or answer None when there is none.

        The description never quotes a value, because parameters may be secrets. It may name
        members, because a client must be told which one to correct.
        """
        ...


class Example(NamedTuple):
    """A call that a person may try: canonical JSON of its parameters and of its answer."""

    parameters_json: bytes
    output_json: bytes


@dataclass(frozen=True, slots=True)
class MethodDeclaration:
    """One method: what it does, how long it may take, and how much it may answer."""

    name: str
    description: str
    max_duration_s: float
    max_response_bytes: int
    repetition: Repetition
    parameters_schema_json: bytes | None = None
    validator: ParametersValidator | None = None
    example: Example | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that no gate could enforce.

        Raises:
            ValueError: the name is malformed, a limit is out of range, or a schema came without
                its validator or a validator without its schema.

        """
        if NAME.fullmatch(self.name) is None:
            raise ValueError(f"method name {self.name!r} is not [a-z][a-z0-9_]{{0,63}}")
        if not 0 < self.max_duration_s <= MAX_DURATION_S:
            raise ValueError(f"max_duration_s must be over 0 and at most {MAX_DURATION_S:g}")
        if not 0 < self.max_response_bytes <= MAX_RESPONSE_BYTES:
            raise ValueError(f"max_response_bytes must be 1 to {MAX_RESPONSE_BYTES}")
        if (self.parameters_schema_json is None) is not (self.validator is None):
            raise ValueError("a schema and its validator are declared together or not at all")


@dataclass(frozen=True, slots=True)
class DomainDeclaration:
    """One domain: its name, the adapter that reaches it, where, and its methods by name.

    `server_name` is the name in the certificate of a domain that is reached over a network;
    `mcp` describes the server of a domain that is one.
    """

    name: str
    adapter: str
    endpoint: str | None
    methods: Mapping[str, MethodDeclaration]
    server_name: str | None = None
    mcp: McpServer | None = None

    def __post_init__(self) -> None:
        """Take a private copy of the methods, so that nobody can add one afterwards.

        Raises:
            ValueError: the name is malformed, there is no method, or a method is filed under
                another name than its own.

        """
        if NAME.fullmatch(self.name) is None:
            raise ValueError(f"domain name {self.name!r} is not [a-z][a-z0-9_]{{0,63}}")
        if not self.methods:
            raise ValueError(f"domain {self.name!r} declares no method")
        for name, method in self.methods.items():
            if name != method.name:
                raise ValueError(f"method {method.name!r} is filed under {name!r}")
        object.__setattr__(self, "methods", MappingProxyType(dict(self.methods)))

    @property
    def is_elsewhere(self) -> bool:
        """Say whether the domain has a definition that an operator has to accept."""
        return self.adapter in ELSEWHERE


class Catalogue:
    """Every declared domain, by exact name. Immutable, and safe to read from any thread."""

    __slots__ = ("_domains",)

    _domains: Mapping[str, DomainDeclaration]

    def __init__(self, domains: Iterable[DomainDeclaration]) -> None:
        """Collect the declarations.

        Raises:
            ValueError: two domains have the same name.

        """
        collected: dict[str, DomainDeclaration] = {}
        for domain in domains:
            if domain.name in collected:
                raise ValueError(f"domain {domain.name!r} is declared twice")
            collected[domain.name] = domain
        object.__setattr__(self, "_domains", MappingProxyType(collected))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse every assignment."""
        raise AttributeError(f"a catalogue is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        """Refuse every deletion."""
        raise AttributeError(f"a catalogue is immutable: {name} cannot be deleted")

    @property
    def domains(self) -> Mapping[str, DomainDeclaration]:
        """The declarations by name, in declared order; a read-only view."""
        return self._domains

    def __iter__(self) -> Iterator[DomainDeclaration]:
        """Yield the declarations in declared order."""
        return iter(self._domains.values())

    def domain(self, name: str) -> DomainDeclaration | None:
        """Return the domain of exactly this name, or None."""
        return self._domains.get(name)

    def method(self, domain: str, method: str) -> MethodDeclaration | None:
        """Return the method of exactly these names, or None when either is not declared."""
        declared = self._domains.get(domain)
        return None if declared is None else declared.methods.get(method)

    def withholds(self, domain: str) -> bool:
        """Say whether the domain is elsewhere: by itself a catalogue knows of no acceptance."""
        declared = self._domains.get(domain)
        return declared is not None and declared.is_elsewhere

    def extended(self, further: Iterable[DomainDeclaration]) -> Self:
        """Return a new catalogue that holds these domains too.

        Raises:
            ValueError: a name is already taken.

        """
        return type(self)([*self, *further])


def _quoted(segment: str) -> str:
    if not set(segment) & {".", "`"}:
        return segment
    return "`" + segment.replace("`", "``") + "`"
