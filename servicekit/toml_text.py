"""A table as TOML text, which reads back as the same table.

Deliberately absent: dates, comments of the caller's, and a choice of style. What JSON can hold is
what is written; a null, which TOML lacks, becomes a comment.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def render_toml(table: Mapping[str, Any]) -> str:
    """Return the table as TOML, its plain values first and its sections after them."""
    return "\n".join(_toml_table(table, ())).strip("\n") + "\n"


def _toml_table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield a table's plain values, then its sections: TOML wants them in this order."""
    for key, value in table.items():
        if value is None:
            yield f"# {_toml_key(key)} is not set"
        elif not isinstance(value, dict):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            section = (*path, key)
            yield ""
            yield f"[{'.'.join(_toml_key(part) for part in section)}]"
            yield from _toml_table(value, section)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_text(key)


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(_toml_value(item) for item in value)}]"
        case dict():
            pairs = (f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case _:
            return _toml_text(str(value))
