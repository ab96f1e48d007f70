"""The JSON Schema of the domains file agrees with the parser, which decides."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from stage3_service.adapters.declarations_file import declarations_schema, read_declarations
from stage3_service.domains.declarations_reading import DeclarationsRefused
from tests.harness.remote import write_domains_file

ROOT = Path(__file__).resolve().parents[4]
SHIPPED = ROOT / "docs" / "spec" / "domains.schema.json"
EXAMPLES = (
    "examples/domains.toml",
    "examples/domain_service/domains.toml",
    "deploy/compose/domains.toml",
)
GOOD: dict[str, Any] = {
    "domains": {
        "words": {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}},
        "far": {
            "adapter": "grpc",
            "endpoint": "far:1",
            "server_name": "far.test",
            "methods": {
                "run": {
                    "description": "Runs.",
                    "max_duration_s": 1.5,
                    "max_response_bytes": 64,
                    "repetition": "neither",
                    "parameters_schema": {"type": "object"},
                }
            },
        },
    }
}
RUN = ("domains", "far", "methods", "run")
UPPER = ("domains", "words", "methods", "upper")
GONE = object()
BAD: list[tuple[tuple[str, ...], Any]] = [
    (("domains",), GONE),
    (("domains",), {}),
    (("domains",), []),
    (("domain",), {}),
    (("domains", "Words"), {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}),
    (("domains", "words"), "text"),
    (("domains", "words", "adapter"), "builtn"),
    (("domains", "words", "endpoint"), "texts"),
    (("domains", "words", "endpoint"), GONE),
    (("domains", "words", "methods"), GONE),
    (("domains", "words", "methods"), {}),
    (("domains", "words", "server_name"), "words.test"),
    ((*UPPER[:-1], "uper"), {}),
    ((*UPPER, "repetition"), "neither"),
    ((*UPPER, "max_duration_s"), 0),
    ((*UPPER, "max_duration_s"), True),
    ((*UPPER, "max_response_bytes"), 1.5),
    ((*UPPER, "parameters_schema"), True),
    (("domains", "far", "endpoint"), GONE),
    (("domains", "far", "server_name"), 7),
    (("domains", "far", "methods"), {}),
    (("domains", "far", "methods", "Run"), {}),
    *(((*RUN, key), GONE) for key in ("description", "max_duration_s", "max_response_bytes")),
    ((*RUN, "repetition"), "often"),
    ((*RUN, "description"), ""),
    ((*RUN, "description"), "x" * 501),
    ((*RUN, "max_duration_s"), 301),
    ((*RUN, "max_response_bytes"), 0),
    ((*RUN, "max_response_bytes"), 1_048_577),
    ((*RUN, "max_duration"), 1),
]


def validator() -> jsonschema_rs.Draft202012Validator:
    """Compile the schema."""
    schema: Any = declarations_schema()
    return jsonschema_rs.Draft202012Validator(schema)


def changed(path: tuple[str, ...], value: Any) -> Any:
    """Return the good file with one value in place of another, or without it."""
    document = copy.deepcopy(GOOD)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def accepted(document: Any, tmp_path: Path) -> bool:
    """Ask the parser."""
    file = tmp_path / "domains.json"
    file.write_text(json.dumps(document))
    try:
        read_declarations(file)
    except DeclarationsRefused:
        return False
    return True


def test_the_shipped_schema_is_the_one_that_is_printed() -> None:
    """docs/spec/domains.schema.json is what `stage3 domain schema` prints."""
    assert SHIPPED.read_text() == json.dumps(declarations_schema(), indent=2) + "\n"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_shipped_file_fits(example: str) -> None:
    """The examples, and the composed pair's."""
    document = tomllib.loads((ROOT / example).read_text())
    assert validator().is_valid(document)
    read_declarations(ROOT / example)


def test_good_files_are_good_to_both(tmp_path: Path) -> None:
    """The corpus begins with files that are served."""
    remote = json.loads(write_domains_file(tmp_path / "remote.json", "127.0.0.1:1").read_text())
    for document in (GOOD, remote):
        assert validator().is_valid(document)
        assert accepted(document, tmp_path)


@pytest.mark.parametrize(("path", "value"), BAD)
def test_bad_files_are_bad_to_both(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    """One value is wrong, and each of the two says so."""
    document = changed(path, value)
    assert not validator().is_valid(document)
    assert not accepted(document, tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("domains", "stage3"), GOOD["domains"]["words"]),
        ((*UPPER, "max_duration_s"), 5),
        ((*RUN, "parameters_schema"), {"maxLenght": 1}),
        (("domains", "far", "endpoint"), "far"),
    ],
)
def test_the_parser_knows_more(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    """Reserved names, a builtin's own limits, schemas and addresses: the schema does not decide."""
    document = changed(path, value)
    assert validator().is_valid(document)
    assert not accepted(document, tmp_path)


def test_a_problem_names_its_line(tmp_path: Path) -> None:
    """In the order of the file, each with the suggestion that it had."""
    file = tmp_path / "domains.toml"
    file.write_text(
        '[domains.words]\nadapter = "builtin"\nendpoint = "txt"\n[domains.words.methods]\n'
        'upper = {}\n\n[domains.more]\nadapter = "builtin"\nendpoint = "text"\n'
        "[domains.more.methods]\nuper = {}\n"
    )
    with pytest.raises(DeclarationsRefused) as refused:
        read_declarations(file)
    assert [problem.partition(": ")[0] for problem in refused.value.problems] == [
        "line 3",
        "line 11",
    ]
    assert refused.value.problems[1].endswith("did you mean upper?")
