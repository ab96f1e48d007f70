"""`docs/preview.md`, tried word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit.process import ExitCode
from tests.harness.page_reader import ROOT, Reader, blocks

GUIDE = ROOT / "docs" / "preview.md"
PREVIEW = 'stage4 plan preview plan.json --catalogue catalogue --vkey "$(cat stage3.vkey)"'

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with an empty directory; what still serves at the end is ended."""
    somebody = Reader(tmp_path)
    yield somebody
    somebody.stop()


def without_padding(text: str) -> str:
    """Return the lines without the white space that fills a column."""
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


def test_the_page_works_as_it_stands(reader: Reader, tmp_path: Path) -> None:
    """Every file as shown, every command as typed; the preview as printed, the run as approved."""
    said: list[str] = []
    for file, language, text in blocks(GUIDE):
        if language == "serve":
            reader.serve(text.strip())
        elif language == "sh":
            said.append(reader.type(text))
        elif language == "text":
            assert text in without_padding(said[-1])
        else:
            assert file, f"a block that nothing names: {text[:40]}"
            reader.write(file, text)
    assert "completed" in said[-1]
    run = "stage4 plan run plan.json --token-file plan.token --profile certs/demo.toml --json"
    # The token is used up, and it is bound: one changed value is another plan.
    assert "LIMIT_EXCEEDED" in reader.type(f"{run} 2>&1 || true")
    approved = json.loads(reader.type(f"{PREVIEW} --json"))
    plan = (tmp_path / "plan.json").read_text()
    reader.write("plan.json", plan.replace("hello", "hallo"))
    assert "PLAN_NOT_BOUND" in reader.type(f"{run} 2>&1 || true")
    changed = json.loads(reader.type(f"{PREVIEW} --json"))
    assert changed["plan_digest"] != approved["plan_digest"]
    assert changed["catalogue"] == approved["catalogue"]
    # The control of the signature: one word of the catalogue is another.
    catalogue = tmp_path / "catalogue"
    catalogue.write_bytes(catalogue.read_bytes().replace(b"Writes one note", b"Writes two note"))
    assert "CATALOGUE_REFUSED" in reader.type(f"{PREVIEW} 2>&1 || true")
    assert reader.stop() == [int(ExitCode.OK)] * 2
