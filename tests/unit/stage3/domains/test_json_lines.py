"""The line of a path in a JSON text, found by the parser that decides."""

import pytest

from servicekit.ijson import JsonLimits
from stage3_service.domains.json_lines import JsonLines

TEXT = """{
  "domains": {
    "words": {"adapter": "builtin", "endpoint": "ü",
      "methods": {
        "upper": {"max_duration_s": 0.5},
        "lower":
          {"parameters_schema": {"required": [
            "text", "a: b",
            "more"
          ], "properties": {"a.b": {
            "pattern": "x"}}}}
      }
    },
    "other": {}
  }
}
""".encode()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("domains", 2),
        ("domains.words.endpoint", 3),
        ("domains.words.methods.upper.max_duration_s", 5),
        ("domains.words.methods.lower", 7),
        ("domains.words.methods.lower.parameters_schema.required[0]", 8),
        ("domains.words.methods.lower.parameters_schema.required[2]", 9),
        ("domains.words.methods.lower.parameters_schema.properties.`a.b`.pattern", 11),
        # What is missing is missing in the value around it.
        ("domains.other.endpoint", 14),
        ("domains.words.methods.lower.parameters_schema.required[3]", 7),
    ],
)
def test_a_path_is_found_where_its_value_begins(path: str, line: int) -> None:
    """Members, elements and quoted keys; bytes of more than one do not move a line."""
    assert JsonLines(TEXT, JsonLimits()).line_of(path) == line


@pytest.mark.parametrize("path", ["", "nowhere", "nowhere.at.all"])
def test_what_is_nowhere_has_no_line(path: str) -> None:
    """No guess."""
    assert JsonLines(TEXT, JsonLimits()).line_of(path) is None
