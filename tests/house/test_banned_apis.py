"""Clock, entropy, identifiers and environment are arguments; ruff refuses other ways to them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT

BANNED = {
    "wall clock": "import datetime\ndatetime.datetime.now(tz=datetime.UTC)\n",
    "wall clock, imported name": "from datetime import UTC, datetime\ndatetime.now(tz=UTC)\n",
    "today": "import datetime\ndatetime.date.today()\n",
    "seconds since the epoch": "import time\ntime.time()\n",
    "nanoseconds since the epoch": "from time import time_ns\ntime_ns()\n",
    "sleep": "import time\ntime.sleep(1)\n",
    "random identifier": "import uuid\nuuid.uuid4()\n",
    "time-ordered identifier": "from uuid_utils.compat import uuid7\nuuid7()\n",
    "environment": "import os\nos.environ['HOME']\n",
    "one variable": "import os\nos.getenv('HOME')\n",
    "system entropy": "import os\nos.urandom(32)\n",
    "secrets": "import secrets\nsecrets.token_bytes(32)\n",
    "one secret": "from secrets import token_bytes\ntoken_bytes(32)\n",
    "chance": "import random\nrandom.random()\n",
    "mock": "from unittest import mock\nmock.Mock()\n",
}


def banned_api_findings(source: str, pretended_path: str) -> str:
    """Return ruff's report on `source` as if it stood at `pretended_path`."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("ruff"),
            *("check", "--no-cache", "--select=TID251", "--output-format=concise"),
            f"--stdin-filename={pretended_path}",
            "-",
        ],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.parametrize("source", BANNED.values(), ids=BANNED.keys())
@pytest.mark.parametrize(
    "path",
    [
        "servicekit/store/planted.py",
        "stage3_service/tokens/planted.py",
        "stage3_service/wire/planted.py",
        "stage4_service/orchestrator.py",
    ],
)
def test_a_banned_call_is_refused_in_rooms_and_doors(path: str, source: str) -> None:
    """Neither a room nor a door may fetch what must be handed to it."""
    assert "TID251" in banned_api_findings(source, path)


@pytest.mark.parametrize("source", BANNED.values(), ids=BANNED.keys())
@pytest.mark.parametrize("path", ["stage3_service/bootstrap.py", "stage4_service/cli/planted.py"])
def test_the_entry_points_may_fetch_what_they_hand_on(path: str, source: str) -> None:
    """The control: the same lines pass where the house reads clock, entropy and environment."""
    assert "TID251" not in banned_api_findings(source, path)
