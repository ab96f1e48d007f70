"""What a command prints: tables for people, one JSON document for programs.

Text that came from elsewhere is shown, never obeyed: control characters are spelled out, so that no
answer can move a cursor, and brackets are not taken for markup. Deliberately absent: colour as the
only carrier of a meaning.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from servicekit.cli.failure import CommandFailed

# A pipe has no width. Programs that read tables anyway get whole lines, not folded ones.
_PIPE_COLUMNS: Final = 200
_TAIL_CHARACTERS: Final = 7


def printable(text: str) -> str:
    """Return the text with every character that a terminal would obey spelled as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def emit(document: object) -> None:
    """Print one JSON document, and nothing else, on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")


def say(text: str) -> None:
    """Print one line for people."""
    _console().print(printable(text), markup=False, highlight=False, soft_wrap=True)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values below each other; values that are None are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            grid.add_row(name, Text(_cell(value)))
    _console().print(grid)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; an empty one is only its head."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        if column.endswith("_id"):
            # To be copied: it is never broken, whatever else has to be.
            longest = max([len(column), *(len(_cell(row[number])) for row in rows)])
            table.add_column(column, no_wrap=True, min_width=longest)
        else:
            table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    _console().print(table)


def count(number: int, noun: str) -> str:
    """Return `1 event` or `3 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def times_of_day(timestamps: Sequence[str]) -> tuple[str, list[str]]:
    """Return the one date of RFC 3339 timestamps in UTC and their times; or no date, and all of it.

    A table of one day repeats the day in no row.
    """
    dates = {timestamp.partition("T")[0] for timestamp in timestamps}
    if len(dates) != 1:
        return "", list(timestamps)
    times = [timestamp.partition("T")[2].removesuffix("Z") for timestamp in timestamps]
    return f"{dates.pop()} UTC", times


def tail(identifier: str) -> str:
    """Return the end of an identifier, which tells those of one table apart."""
    return f"…{identifier[-_TAIL_CHARACTERS:]}" if identifier else ""


def identity_path(uri: object) -> str:
    """Return who a caller is in its own deployment: `client/demo` of `spiffe://…/client/demo`."""
    return str(uri or "").removeprefix("spiffe://").partition("/")[2]


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters of a text, with an ellipsis where it was cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def print_failure(program: str, failure: CommandFailed, *, as_json: bool) -> None:
    """Tell a failure on standard error, as text or as one JSON document."""
    if as_json:
        error: dict[str, object] = {
            "reason": failure.reason,
            "message": failure.message,
            "advice": failure.advice,
            "exit_code": int(failure.exit_code),
            "problems": list(failure.problems),
            **failure.facts,
        }
        sys.stderr.write(json.dumps({"error": error}, indent=2) + "\n")
        return
    lines = [f"{program}: {failure.reason}: {failure.message}"]
    lines += [f"  - {problem}" for problem in failure.problems]
    facts = {name: value for name, value in failure.facts.items() if value is not None}
    width = max(map(len, facts), default=0)
    lines += [f"  {name:<{width}}  {_cell(value)}" for name, value in facts.items()]
    if failure.advice:
        lines.append(f"  next: {failure.advice}")
    sys.stderr.write("".join(printable(line) + "\n" for line in lines))


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value)
        case _:
            return printable(
                json.dumps(value, ensure_ascii=False)
                if isinstance(value, (dict, list))
                else str(value)
            )


def _console() -> Console:
    from rich.console import Console

    if sys.stdout.isatty():
        return Console()
    # COLUMNS is obeyed where it is set; else nothing is folded.
    return Console(width=shutil.get_terminal_size((_PIPE_COLUMNS, 24)).columns)
