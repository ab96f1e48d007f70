"""What the first page prints to be typed can be typed: its plan is valid, its commands exist."""

import json
import re
import shlex
from pathlib import Path

from stage4_service import validate_strict_json_plan
from tests.component.cli.test_cli_page import COMMANDS

PAGE = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", PAGE)


def typed() -> list[list[str]]:
    """Return the words of every `stage3` and `stage4` command in a block of the page."""
    lines = "\n".join(text for _language, text in BLOCKS).replace("\\\n", " ").splitlines()
    commands = [line.strip().removeprefix("$ ") for line in lines]
    return [shlex.split(line) for line in commands if re.match(r"stage[34] [a-z]", line)]


def test_its_plan_is_valid() -> None:
    """The plan that a reader copies passes the rules."""
    plans = [json.loads(text) for language, text in BLOCKS if language == "json"]

    assert [validate_strict_json_plan(plan) for plan in plans] == [(True, None)]


def test_its_commands_and_options_exist() -> None:
    """Each is a command of today, with options of today."""
    assert typed()
    for words in typed():
        name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in COMMANDS), None)
        assert name is not None, words
        unknown = {word for word in words if word.startswith("--")} - COMMANDS[name]
        assert unknown == set(), words
