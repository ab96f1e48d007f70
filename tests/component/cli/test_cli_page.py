"""docs/cli.md names every command with all of its options, and nothing that does not exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from servicekit.process import ExitCode
from stage3_service.cli.application import EXIT_CODES as STAGE3_EXIT_CODES
from stage3_service.cli.application import app as stage3
from stage4_service.cli.application import EXIT_CODES as STAGE4_EXIT_CODES
from stage4_service.cli.application import app as stage4

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
SHELL = {"--help", "--install-completion", "--show-completion"}


def commands(app: typer.Typer, program: str) -> Iterator[tuple[str, set[str]]]:
    """Yield every command's words and its options."""

    def walk(command: object, words: str) -> Iterator[tuple[str, set[str]]]:
        below = getattr(command, "commands", None)
        if below is None:
            options = {
                option
                for parameter in getattr(command, "params", ())
                for option in parameter.opts
                if option.startswith("--")
            }
            yield words, options - SHELL
            return
        for name, inner in below.items():
            yield from walk(inner, f"{words} {name}")

    yield from walk(get_command(app), program)


COMMANDS = dict([*commands(stage3, "stage3"), *commands(stage4, "stage4")])


def sections() -> dict[str, str]:
    """Return the text of the page's section of each command that a heading names."""
    found = {}
    for heading, text in re.findall(r"(?ms)^### (stage[^\n]*)\n(.*?)(?=^##|\Z)", PAGE):
        for command in heading.split(", "):
            found[re.sub(r" \[?[A-Z_]+\]?", "", command)] = text
    return found


def test_the_page_has_every_command_and_no_other() -> None:
    """Headings and commands are the same set."""
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_every_option_and_no_other(command: str) -> None:
    """A section names the options of its command, each of them."""
    named = set(re.findall(r"--[a-z][a-z0-9-]*", sections()[command]))
    shared = [other for other, text in sections().items() if text == sections()[command]]
    known = set().union(*(COMMANDS[other] for other in shared))

    assert COMMANDS[command] - named == set()
    assert named - known == set()


@pytest.mark.parametrize("text", [PAGE, STAGE3_EXIT_CODES, STAGE4_EXIT_CODES])
def test_every_exit_code_is_documented(text: str) -> None:
    """On the page, and under each program's own help."""
    missing = [code for code in ExitCode if not re.search(rf"\b{code.value}\b", text)]

    assert missing == []
