"""`docs/write-a-client.md`, tried word for word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit.process import ExitCode
from tests.harness.node import NODE_MODULES
from tests.harness.page_reader import ROOT, Reader, blocks

GUIDE = ROOT / "docs" / "write-a-client.md"

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with an empty directory; what still serves at the end is ended."""
    somebody = Reader(tmp_path, STAGEGATE=str(ROOT), NODE_PATH=str(NODE_MODULES))
    yield somebody
    somebody.stop()


def test_the_page_works_as_it_stands(reader: Reader) -> None:
    """Every file as shown, every command as typed; Python and Node print the same result."""
    said = []
    for file, language, text in blocks(GUIDE):
        if language == "serve":
            reader.serve(text.strip())
        elif language == "sh":
            said.append(reader.type(text))
        else:
            assert file, f"a block that nothing names: {text[:40]}"
            reader.write(file, text)
    in_python, in_node = said[-2:]
    assert json.loads(in_python)["results"][0]["output"] == {"text": "HELLO"}
    assert in_node == in_python
    assert reader.stop() == [int(ExitCode.OK)] * 2
