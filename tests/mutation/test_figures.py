"""How much of each module that decides is watched; `make mutation` says it of all at once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mutation.runner import ROOT
from tests.mutation.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.long
@pytest.mark.parametrize("module", [target.module for target in TARGETS])
def test_nine_in_ten_changes_are_noticed_and_all_to_the_order_of_a_gate(
    module: str, record_property: Callable[[str, object], None]
) -> None:
    """Prints how many, and each that was not."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation", module],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    figures = [line for line in done.stdout.splitlines() if line.startswith(f"{module}: ")]

    for figure in figures:
        record_property("figure", f"mutation, {figure}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(figures) == 1
