"""`docs/mcp.md`, tried word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit.process import ExitCode
from tests.harness.page_reader import ROOT, Reader, blocks

GUIDE = ROOT / "docs" / "mcp.md"

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with an empty directory; what still serves at the end is ended."""
    somebody = Reader(tmp_path)
    yield somebody
    somebody.stop()


def test_the_page_works_as_it_stands(reader: Reader, tmp_path: Path) -> None:
    """Every file as shown, every command as typed; the plan's output and its events at the end."""
    said = ""
    for file, language, text in blocks(GUIDE):
        if language == "serve":
            reader.serve(text.strip())
        elif language == "sh":
            said = reader.type(text)
        else:
            assert file, f"a block that nothing names: {text[:40]}"
            reader.write(file, text)
    assert len(re.findall(r"TOKEN_VALIDATION|AUTHORIZATION_SCOPE_CHECK|RESOURCE_LIMIT", said)) == 3
    assert "DOMAIN_UNCONFINED" in said
    assert "DOMAIN_ACCEPTED" in said
    run = "stage4 plan run plan.json --token-file demo.token --profile certs/demo.toml --json"
    (result,) = json.loads(reader.type(run))["results"]
    assert result["output"]["structured_content"]["time_difference"] == "+9.0h"
    plan = (tmp_path / "plan.json").read_text().replace("Etc/UTC", "Asia/Tokyo")
    reader.write("plan.json", plan)
    assert "PARAMETERS_INVALID" in reader.type(f"{run} 2>&1 || true")
    assert reader.stop() == [int(ExitCode.OK)] * 2
