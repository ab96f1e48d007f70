"""The domains file: TOML and JSON mean the same, and a bad file is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stage3_service.adapters.declarations_file import (
    MAX_FILE_BYTES,
    builtin_catalogue,
    read_declarations,
)
from stage3_service.domains.declarations_reading import DeclarationsRefused

_TOML = """
[domains.words]
adapter = "builtin"
endpoint = "text"
[domains.words.methods]
upper = { max_duration_s = 0.5 }
sha256 = { parameters_schema = { required = ["text"], properties = { text = { minLength = 1 } } } }
"""

_JSON = {
    "domains": {
        "words": {
            "adapter": "builtin",
            "endpoint": "text",
            "methods": {
                "upper": {"max_duration_s": 0.5},
                "sha256": {
                    "parameters_schema": {
                        "required": ["text"],
                        "properties": {"text": {"minLength": 1}},
                    }
                },
            },
        }
    }
}


def _refused(path: Path) -> str:
    with pytest.raises(DeclarationsRefused) as caught:
        read_declarations(path)
    (problem,) = caught.value.problems
    return problem


def test_without_a_file_every_builtin_domain_is_served() -> None:
    """A first run needs no file."""
    catalogue = read_declarations(None)
    assert {domain.name: sorted(domain.methods) for domain in catalogue} == {
        "text": ["concat", "lower", "replace", "sha256", "split", "trim", "upper", "word_count"],
        "notebook": ["append_note", "list_notes", "read_note"],
        "hashing": ["blake2b", "blake2b_bytes", "sha256", "sha256_bytes", "sha512", "sha512_bytes"],
        "json_schema": ["check"],
        "dates": ["add", "add_days", "difference", "parse", "weekday"],
        "units": ["convert", "convert_rounded"],
    }


def test_toml_and_json_declare_the_same(tmp_path: Path) -> None:
    """The two notations differ in nothing that is enforced."""
    (tmp_path / "domains.toml").write_text(_TOML)
    (tmp_path / "domains.json").write_text(json.dumps(_JSON))
    (from_toml,) = read_declarations(tmp_path / "domains.toml")
    (from_json,) = read_declarations(tmp_path / "domains.json")
    assert from_toml.name == from_json.name == "words"
    for toml_method, json_method in zip(
        from_toml.methods.values(), from_json.methods.values(), strict=True
    ):
        assert toml_method.name == json_method.name
        assert toml_method.max_duration_s == json_method.max_duration_s
        assert toml_method.parameters_schema_json == json_method.parameters_schema_json


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("domains.yaml", b"domains:", "the name must end in .toml or .json"),
        ("domains", b"", "the name must end in .toml or .json"),
        ("domains.toml", b"[domains", "is not TOML"),
        ("domains.toml", b"\xff\xfe", "is not TOML"),
        ("domains.toml", b"a = 1\na = 2", "is not TOML"),
        ("domains.toml", b"x = " + b"[" * 20_000, "is nested too deeply"),
        ("domains.toml", b"[domains]\nx = 2026-01-01", "domains.x: a value that JSON does not"),
        ("domains.toml", b"x = [1, nan]", "x[1]: a value that JSON does not"),
        ("domains.toml", b"x = inf", "x: a value that JSON does not"),
        ("domains.toml", b"x = 07:32:00", "x: a value that JSON does not"),
        ("domains.json", b'{"domains":{},"domains":{}}', "is not strict JSON"),
        ("domains.json", b"{}{}", "is not strict JSON"),
        ("domains.json", b"\xef\xbb\xbf{}", "is not strict JSON"),
        ("domains.json", b" " * (MAX_FILE_BYTES + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    """The one problem names the file and what is wrong with it."""
    path = tmp_path / name
    path.write_bytes(content)
    found = _refused(path)
    assert found.startswith(f"{path}: ")
    assert problem in found


def test_problems_of_a_json_file_are_told_with_their_line(tmp_path: Path) -> None:
    """In the order of the file, as for TOML."""
    path = tmp_path / "domains.json"
    path.write_text(
        '{"domains": {\n "words": {"adapter": "builtin",\n  "endpoint": "txt",\n'
        '  "methods": {"upper": {\n   "max_duration_s": "long"}}},\n "Words": {}}}'
    )
    with pytest.raises(DeclarationsRefused) as refused:
        read_declarations(path)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["line 3", "line 6"]


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    """A named file that is not there is an error, never the builtin catalogue instead."""
    assert "cannot be read: No such file" in _refused(tmp_path / "domains.toml")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """Whatever cannot be read is refused the same way."""
    (tmp_path / "domains.toml").mkdir()
    assert "cannot be read: Is a directory" in _refused(tmp_path / "domains.toml")


def test_every_builtin_schema_is_closed() -> None:
    """No builtin method takes a parameter it does not know, or leaves one out."""
    for domain in builtin_catalogue():
        for method in domain.methods.values():
            assert method.parameters_schema_json is not None
            schema = json.loads(method.parameters_schema_json)
            assert schema["additionalProperties"] is False, method.name
            assert sorted(schema["required"]) == sorted(schema["properties"]), method.name
