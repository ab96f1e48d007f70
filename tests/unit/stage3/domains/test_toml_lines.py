"""The line of a path, found by the parser that decides."""

import pytest

from stage3_service.domains.toml_lines import TomlLines

TEXT = b"""# A comment
[domains.words]
adapter = "builtin"

endpoint = "text"   # [not.a.table]
[domains.words.methods]
upper = { max_duration_s = 0.5 }
lower = { parameters_schema = { required = [
  "text",
  "more",
] } }
[domains.words.methods.sha256]
parameters_schema.properties."a.b".pattern = '''
[not]
x = 1
'''
max_duration_s = 9
["domains".other]
adapter = "grpc"
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("domains", 2),
        ("domains.words", 2),
        ("domains.words.adapter", 3),
        ("domains.words.endpoint", 5),
        ("domains.words.methods", 6),
        ("domains.words.methods.upper.max_duration_s", 7),
        ("domains.words.methods.lower.parameters_schema.required[1]", 8),
        ("domains.words.methods.sha256", 12),
        ("domains.words.methods.sha256.parameters_schema.properties.`a.b`.pattern", 13),
        ("domains.words.methods.sha256.max_duration_s", 17),
        ("domains.other", 18),
        ("domains.other.adapter", 19),
        # What is missing is missing in the table above it.
        ("domains.other.endpoint", 18),
        ("domains.words.methods.sha256.repetition", 12),
    ],
)
def test_a_path_is_found_where_its_statement_begins(path: str, line: int) -> None:
    """Tables, dotted keys, inline tables, and values that span lines and look like statements."""
    assert TomlLines(TEXT).line_of(path) == line


@pytest.mark.parametrize("path", ["", "nowhere", "nowhere.at.all"])
def test_what_is_nowhere_has_no_line(path: str) -> None:
    """No guess."""
    assert TomlLines(TEXT).line_of(path) is None
