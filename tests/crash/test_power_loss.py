"""The power goes at any moment of Stage-3's whole life: what was told is there, and all of it fits.

The trace is that of the real Stage-3 on its real store; each state is opened as a restart opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from servicekit.store.errors import StoreError
from stage3_service.settings import STORE_FILE
from tests.crash.power_cuts import (
    ALL,
    FEW,
    MANY,
    SAMPLE,
    Count,
    Opening,
    Promise,
    Recorded,
    judge,
    recorded,
)
from tests.crash.store_scenario import SCOPE, Tokens, Told, play, serving
from tests.fakes.faulty_disk import FaultyDisk
from tests.harness.slices import WHOLE, Slice, slice_of_long_run
from tests.harness.stage3 import running_stage3


def record(home: Path, *, synchronous: str) -> Recorded:
    """Run the scenario once."""
    with running_stage3(home) as stage3:
        good, doomed = stage3.issue(scope=SCOPE), stage3.issue(scope=SCOPE)
    tokens = Tokens(good.token_hash, doomed.token_hash, doomed.token.token_id)
    disk = FaultyDisk()
    store = home / "stage3" / STORE_FILE
    with serving(home, disk.name) as (service, stage3, _):

        def scenario() -> list[Promise]:
            play(service, stage3, tokens, Told())
            return []

        return recorded(disk, store, service._ledger, scenario, synchronous=synchronous)


def cut(
    trial: Recorded, memory: Path, *, subsets: int, every: int = 1, part: Slice = WHOLE
) -> Count:
    """Cut the power in the trial."""
    return judge(trial, memory, STORE_FILE, subsets=subsets, every=every, part=part)


@pytest.mark.slow
def test_no_state_after_a_power_cut_lacks_what_was_told(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each opens, verifies, is a beginning of the log, and holds all that anybody was told of."""
    count = cut(record(tmp_path, synchronous="FULL"), memory, subsets=FEW, every=SAMPLE)
    record_property("figure", count.figure("Stage-3", "FULL"))
    assert count.distinct > 200
    assert count.lost == 0


@pytest.mark.slow
def test_control_without_full_synchronous_what_was_told_is_gone(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """The control: with synchronous=NORMAL the same states lack entries, though each verifies."""
    count = cut(record(tmp_path, synchronous="NORMAL"), memory, subsets=FEW, every=SAMPLE)
    record_property("figure", count.figure("Stage-3", "NORMAL"))
    assert count.lost > 0


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_many_more_states_lack_nothing(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """At every operation, with sixteen further subsets of the unsynced writes."""
    count = cut(record(tmp_path, synchronous="FULL"), memory, subsets=MANY)
    record_property("figure", count.figure("Stage-3", "FULL"))
    assert count.lost == 0


@pytest.mark.long
def test_all_states_of_up_to_twelve_writes_lack_nothing(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """All subsets of up to twelve unsynced writes, and 4,096 of more."""
    part = slice_of_long_run()
    count = cut(record(tmp_path, synchronous="FULL"), memory, subsets=ALL, part=part)
    record_property("figure", part.label(count.figure("Stage-3", "FULL")))
    assert count.lost == 0


def test_a_torn_header_is_no_store(memory: Path) -> None:
    """What is judged here can be judged: a damaged file is not taken for a whole one."""
    with pytest.raises((apsw.Error, StoreError, AssertionError)):
        Opening(memory, STORE_FILE, [b""]).found({STORE_FILE: b"SQLite format 3\0" + bytes(4_080)})
