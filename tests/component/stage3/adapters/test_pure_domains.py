"""The builtin domains without state: every example holds, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stage3_service.adapters.builtin import notebook
from stage3_service.adapters.builtin.catalogue import PURE_DOMAINS
from stage3_service.adapters.builtin.notebook import Notebook
from stage3_service.adapters.builtin.notebook_file import create_notebook
from stage3_service.adapters.builtin.text import TEXT
from stage3_service.domains.port import Invocation, MethodFailed, Output

METHODS = [
    (name, method) for name, domain in PURE_DOMAINS.items() for method in domain.declarations
]


def ask(domain: str, method: str, **parameters: Any) -> Any:
    """Return what a method answers, or the text of its failure."""
    raw = json.dumps(parameters).encode()
    answer = PURE_DOMAINS[domain].invoke(Invocation(method, raw, 1.0, "plan-1/0"))
    return json.loads(answer.json_bytes) if isinstance(answer, Output) else answer.message


@pytest.mark.parametrize(("domain", "method"), METHODS)
def test_every_example_is_what_happens(domain: str, method: str) -> None:
    """It fits the method's own schema, and the answer is the one shown, byte for byte."""
    declared = PURE_DOMAINS[domain].declarations[method]
    shown = declared.example
    assert shown is not None
    assert declared.validator is not None
    assert declared.validator.first_error(json.loads(shown.parameters_json)) is None
    answer = PURE_DOMAINS[domain].invoke(Invocation(method, shown.parameters_json, 1.0, "plan-1/0"))
    assert answer == Output(shown.output_json)


@pytest.mark.parametrize("domain", PURE_DOMAINS)
def test_an_unknown_method_is_a_failure(domain: str) -> None:
    """The gates would not let it come so far."""
    answer = PURE_DOMAINS[domain].invoke(Invocation("none", b"{}", 1.0, "plan-1/0"))
    assert isinstance(answer, MethodFailed)


@pytest.mark.parametrize("base64", ["YWJ", "YWJj\n", " YWJj", "YWJjé", "YR==", "YWJj=", "-_=="])
def test_only_one_spelling_of_bytes_is_hashed(base64: str) -> None:
    """Padding, white space, another alphabet, and bits that mean nothing."""
    assert "base64: " in ask("hashing", "sha256_bytes", base64=base64)


def test_no_bytes_are_bytes_too() -> None:
    """The digest of nothing is known."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert ask("hashing", "sha256_bytes", base64="") == {"sha256": empty}
    assert ask("hashing", "sha256", text="") == {"sha256": empty}


@pytest.mark.parametrize(
    "instant",
    [
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T23:59:60Z",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00.1234567Z",
        "2026-01-01T00:00:00+25:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "٢٠٢٦-01-01T00:00:00Z",
        "2026-W01-1T00:00:00Z",
    ],
)
def test_what_is_no_instant_is_refused(instant: str) -> None:
    """Strictly RFC 3339, in UTC within the years that have four digits."""
    assert ask("dates", "parse", instant=instant).startswith("instant: ")


def test_instants_have_one_spelling() -> None:
    """In UTC, with the decimals they need."""
    for spelled in ("2026-01-01T01:00:00.000+01:00", "2025-12-31T19:00:00-05:00"):
        assert ask("dates", "parse", instant=spelled)["instant"] == "2026-01-01T00:00:00Z"
    assert ask("dates", "parse", instant="1969-12-31T23:59:59.5Z") == {
        "instant": "1969-12-31T23:59:59.5Z",
        "unix_s": -1,
        "microseconds": 500_000,
    }


def test_no_date_leaves_the_calendar() -> None:
    """Beyond the year 9999, and before the year 1, is nothing."""
    last = {"instant": "9999-12-31T23:59:59Z", "seconds": 1}
    assert ask("dates", "add", **last) == "the result is not in the years 0001 to 9999"
    assert ask("dates", "add_days", date="0001-01-01", days=-1).startswith("the result")
    assert ask("dates", "weekday", date="2023-02-29") == "date: is no day of the calendar"


def test_a_difference_may_be_negative() -> None:
    """Whole seconds downwards, microseconds upwards: their sum is the difference."""
    earlier, later = "2026-01-01T00:00:00.75Z", "2026-01-01T00:00:00.5Z"
    assert ask("dates", "difference", earlier=earlier, later=later) == {
        "seconds": -1,
        "microseconds": 750_000,
    }


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        ("1", "in", "mm", "25.4"),
        ("-40", "degF", "degC", "-40"),
        ("0", "K", "degC", "-273.15"),
        ("98.6", "degF", "degC", "37"),
        ("1", "TiB", "bit", "8796093022208"),
        ("1.50", "h", "min", "90"),
        ("0.1", "lb", "kg", "0.045359237"),
        ("-0", "m", "km", "0"),
        ("9" * 30 + "." + "9" * 30, "km", "nm", "9" * 42 + "9" * 0 + "9" * 0 + "." + "9" * 18),
    ],
)
def test_conversions_are_exact(value: str, source: str, target: str, result: str) -> None:
    """By definition of the units; nothing is lost in a double."""
    answer = ask("units", "convert", value=value, from_unit=source, to_unit=target)
    assert answer == {"value": result, "unit": target}


def test_what_has_no_finite_decimal_is_rounded_only_when_asked() -> None:
    """A plan says to how many decimals; halves go to the even neighbour."""
    third = {"value": "1", "from_unit": "m", "to_unit": "ft"}
    assert "no finite decimal" in ask("units", "convert", **third)
    assert ask("units", "convert_rounded", **third, decimals=4)["value"] == "3.2808"
    half = {"from_unit": "s", "to_unit": "s", "decimals": 0}
    assert ask("units", "convert_rounded", value="2.5", **half)["value"] == "2"
    assert ask("units", "convert_rounded", value="3.5", **half)["value"] == "4"


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [("m", "kg", "measures"), ("m", "furlong", "to_unit: is none of"), ("M", "m", "from_unit")],
)
def test_units_are_exact_names_of_one_quantity(source: str, target: str, text: str) -> None:
    """No case folding, no guess."""
    assert text in ask("units", "convert", value="1", from_unit=source, to_unit=target)


@pytest.mark.parametrize("value", ["1e3", "+1", "01", ".5", "1.", "NaN", "1,5", "", "١"])
def test_a_value_is_a_plain_decimal(value: str) -> None:
    """One way to write it, as in JSON, and no exponent."""
    assert ask("units", "convert", value=value, from_unit="m", to_unit="km").startswith("value: ")


def test_a_value_is_checked() -> None:
    """The first offence by its place and rule, and never the value itself."""
    schema = {"properties": {"n": {"type": "integer", "maximum": 5}}}
    assert ask("json_schema", "check", schema_object=schema, value={"n": 5}) == {
        "valid": True,
        "error": None,
    }
    found = ask("json_schema", "check", schema_object=schema, value={"n": 666})
    assert found["valid"] is False
    assert found["error"].startswith("n: ")
    assert "666" not in found["error"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"properties": {"a": {"allOf": [{"$ref": "#"}]}}},
        {"unevaluatedProperties": False},
        {"uniqueItems": True},
        {"maxLenght": 1},
        {"pattern": "(a+)\\1"},
        {"type": "strnig"},
        {"format": "date"},
        {"description": "x" * 9_000},
    ],
)
def test_a_schema_that_could_stall_or_says_nothing_is_refused(schema: dict[str, Any]) -> None:
    """What a client writes may cost no more than its length."""
    assert "schema_object: " in ask("json_schema", "check", schema_object=schema, value=1)


def test_a_large_value_is_refused() -> None:
    """Before it is looked at."""
    found = ask("json_schema", "check", schema_object={}, value="x" * 40_000)
    assert found == "value: has more than 32768 bytes"


def test_the_examples_of_the_other_builtin_domains_hold_too(tmp_path: Path) -> None:
    """`text` in any order, the notebook in the order in which its methods are declared."""
    create_notebook(tmp_path / "notes.sqlite3")
    notes = Notebook(tmp_path / "notes.sqlite3")
    for domain, declarations in ((TEXT, TEXT.declarations), (notes, notebook.DECLARATIONS)):
        for number, (name, declared) in enumerate(declarations.items()):
            assert declared.example is not None, name
            call = Invocation(name, declared.example.parameters_json, 5.0, f"plan-1/{number}")
            assert domain.invoke(call) == Output(declared.example.output_json), name
    notes.close()
