"""Reads the domains file: TOML or strict JSON in, the catalogue out.

Guards the start against a file that is missing, unreadable, too large, or holds a value that JSON
cannot carry. Deliberately absent: includes, environment substitution and any other way in which a
file could mean something that is not written in it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.adapters.builtin import notebook
from stage3_service.adapters.builtin.catalogue import PURE_DOMAINS
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import Catalogue, DomainDeclaration, MethodDeclaration
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.file_schema import file_schema
from stage3_service.domains.json_lines import JsonLines
from stage3_service.domains.parse_declarations import BUILTIN_ADAPTER, parse_declarations
from stage3_service.domains.toml_lines import TomlLines

MAX_FILE_BYTES = 1_048_576
"""A mebibyte declares thousands of methods; a larger file is another file by mistake."""

BUILTIN_METHODS: Mapping[str, Mapping[str, MethodDeclaration]] = MappingProxyType(
    {
        # Listed in this order: what a first run uses comes first.
        "text": PURE_DOMAINS["text"].declarations,
        "notebook": notebook.DECLARATIONS,
        **{name: domain.declarations for name, domain in PURE_DOMAINS.items()},
    }
)
"""What each builtin domain declares by itself."""

_LINED = 50
"""Problems of one file that are told with their line; whoever has more has the wrong file."""

_LIMITS = JsonLimits(max_bytes=MAX_FILE_BYTES)


def builtin_catalogue() -> Catalogue:
    """Return the catalogue served without a file: every builtin domain, with all its methods."""
    return Catalogue(
        DomainDeclaration(name, BUILTIN_ADAPTER, name, methods)
        for name, methods in BUILTIN_METHODS.items()
    )


def declarations_schema() -> JsonValue:
    """Return the JSON Schema of a domains file, for editors and programs that write one."""
    return file_schema({name: tuple(methods) for name, methods in BUILTIN_METHODS.items()})


def read_declarations(path: Path | None) -> Catalogue:
    """Return what the file at `path` declares, or the builtin catalogue when there is no file.

    Raises:
        DeclarationsRefused: with every problem of the file.

    """
    return read_declared(path)[0]


def read_declared(path: Path | None) -> tuple[Catalogue, str]:
    """Return what the file declares, and the SHA-256 of the very bytes that were read.

    Raises:
        DeclarationsRefused: with every problem of the file.

    """
    if path is None:
        return builtin_catalogue(), sha256().hexdigest()
    try:
        data, raw = _read(path)
    except _FileProblem as problem:
        raise DeclarationsRefused([f"{path}: {problem}"]) from problem
    try:
        catalogue = parse_declarations(raw, validators=compile_schema, builtin=BUILTIN_METHODS)
    except DeclarationsRefused as refused:
        lines = TomlLines(data) if path.suffix == ".toml" else JsonLines(data, _LIMITS)
        raise DeclarationsRefused(_with_lines(refused.problems, lines)) from refused
    return catalogue, sha256(data).hexdigest()


class _FileProblem(Exception):
    """The file has no content to parse."""


def _with_lines(problems: Sequence[str], lines: TomlLines | JsonLines) -> list[str]:
    """Return the problems, each with the line that it is about, in the order of the file."""
    found = [(lines.line_of(problem.partition(": ")[0]), problem) for problem in problems[:_LINED]]
    found.sort(key=lambda each: each[0] or 0)
    told = [f"line {line}: {problem}" if line else problem for line, problem in found]
    return [*told, *problems[_LINED:]]


def _read(path: Path) -> tuple[bytes, JsonValue]:
    readers = {".toml": _decode_toml, ".json": _decode_json}
    reader = readers.get(path.suffix)
    if reader is None:
        raise _FileProblem("the name must end in .toml or .json")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _FileProblem(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise _FileProblem(f"has more than {MAX_FILE_BYTES} bytes")
    return data, reader(data)


def _decode_json(data: bytes) -> JsonValue:
    try:
        return parse(data, _LIMITS).value
    except JsonRefused as refused:
        raise _FileProblem(f"is not strict JSON: {refused}") from refused


def _decode_toml(data: bytes) -> JsonValue:
    try:
        return _as_json(tomllib.loads(data.decode()), "")
    except RecursionError as error:
        raise _FileProblem("is nested too deeply") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _FileProblem(f"is not TOML: {error}") from error


def _as_json(value: object, path: str) -> JsonValue:
    """Return the value as JSON knows it; TOML also has dates and numbers that JSON has not."""
    match value:
        case dict():
            return {str(key): _as_json(inner, f"{path}.{key}") for key, inner in value.items()}
        case list():
            return [_as_json(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
        case bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case _:
            raise _FileProblem(f"{path.lstrip('.')}: a value that JSON does not have")
