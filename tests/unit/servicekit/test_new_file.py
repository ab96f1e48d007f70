"""A new file is there whole, or it is not there."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from servicekit.new_file import new_file


def test_a_file_appears_when_its_block_has_ended(tmp_path: Path) -> None:
    """Until then there is a draft, and afterwards nothing but the file."""
    file = tmp_path / "new"
    with new_file(file) as draft:
        draft.write_bytes(b"half")
        assert not file.exists()
        draft.write_bytes(b"whole")
    assert file.read_bytes() == b"whole"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """Also where it appears while the draft is being filled, and where it is a dangling link."""
    file = tmp_path / "new"
    with pytest.raises(FileExistsError), new_file(file) as draft:  # noqa: PT012 - the block is the subject
        draft.write_bytes(b"mine")
        file.write_bytes(b"theirs")
    with pytest.raises(FileExistsError), new_file(file):
        pass
    assert file.read_bytes() == b"theirs"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), new_file(link):
        pass
    assert {found.name for found in tmp_path.iterdir()} == {"new", "link"}


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    """The next attempt finds an empty folder."""
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "new") as draft:  # noqa: PT012 - the block is the subject
        draft.write_bytes(b"half")
        _ = 1 // 0
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_was_left_behind_is_begun_anew(tmp_path: Path) -> None:
    """Neither its content nor what others could do with it remains."""
    (tmp_path / "new.draft").write_bytes(b"a long beginning")
    (tmp_path / "new.draft").chmod(0o666)
    with new_file(tmp_path / "new") as draft, draft.open("r+b") as file:
        file.write(b"short")
    assert (tmp_path / "new").read_bytes() == b"short"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_two_do_not_make_the_same_file(tmp_path: Path) -> None:
    """Whoever comes second is refused and does not touch the first one's draft."""
    with new_file(tmp_path / "new") as draft:
        draft.write_bytes(b"first")
        with pytest.raises(BlockingIOError), new_file(tmp_path / "new"):
            pass
    assert (tmp_path / "new").read_bytes() == b"first"


def test_a_draft_that_was_swapped_meanwhile_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have finished between the opening of a draft and its lock."""
    real = fcntl.flock

    def finish_first(descriptor: int, operation: int) -> None:
        (tmp_path / "new.draft").unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with pytest.raises(BlockingIOError), new_file(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    """What it points to is neither emptied nor taken for the file."""
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "new.draft").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"), new_file(tmp_path / "new"):
        pass
    assert (tmp_path / "other").read_bytes() == b"precious"
