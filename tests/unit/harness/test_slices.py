"""Parts of a long run: together they are the whole, and none is taken for it."""

from __future__ import annotations

import pytest

from tests.harness.slices import VARIABLE, Slice, slice_of_long_run


@pytest.mark.parametrize(("count", "of"), [(100, 1), (100, 7), (3, 5), (0, 2)])
def test_the_parts_are_the_whole(count: int, of: int) -> None:
    """Each case is in one part, and keeps its number."""
    parts = [Slice(number, of).cases(count) for number in range(1, of + 1)]

    assert [case for part in parts for case in part] == list(range(count))


def test_a_figure_says_that_it_is_of_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing of parts where it is of the whole."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert slice_of_long_run().label("races: 0") == "races: 0"
    monkeypatch.setenv(VARIABLE, "3/20")
    assert slice_of_long_run().label("races: 0") == "part 3 of 20: races: 0"


@pytest.mark.parametrize("spelled", ["", "3", "0/4", "5/4", "1/0", "1/4 ", "a/b", "-1/4"])
def test_what_is_no_part_is_refused(monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    """A part that was misspelled would be taken for the whole."""
    monkeypatch.setenv(VARIABLE, spelled)
    with pytest.raises(ValueError, match=VARIABLE):
        slice_of_long_run()
