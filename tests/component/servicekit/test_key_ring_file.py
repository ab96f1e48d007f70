"""The file of a key ring: private, complete, and never made twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from servicekit.process import ExitCode
from servicekit.store.errors import KeyRefused
from servicekit.store.key_ring_file import add_key, create_key_ring, read_key_ring

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ab" * 32


def test_a_new_ring_is_private_and_can_be_read(tmp_path: Path) -> None:
    """Mode 0600 from its first moment, one key, a line of comment."""
    file = tmp_path / "keys"

    create_key_ring(file, os.urandom)

    assert file.stat().st_mode & 0o777 == 0o600
    assert read_key_ring(file, os.urandom).current in read_key_ring(file, os.urandom)


def test_a_ring_is_never_replaced(tmp_path: Path) -> None:
    """A second `create` would lose what the first one sealed."""
    file = tmp_path / "keys"
    create_key_ring(file, os.urandom)
    before = file.read_bytes()

    with pytest.raises(KeyRefused, match="exists already"):
        create_key_ring(file, os.urandom)

    assert file.read_bytes() == before


@pytest.mark.parametrize("end", ["\n", ""])
def test_an_added_key_stands_last_and_the_others_stay(tmp_path: Path, end: str) -> None:
    """Whatever the last line ended with: the new key has a line of its own, and seals."""
    file = tmp_path / "keys"
    file.write_text(KEY + end)
    file.chmod(0o600)

    previous, added = add_key(file, os.urandom)

    ring = read_key_ring(file, os.urandom)
    assert ring.current == added != previous
    assert previous in ring
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_two_changes_at_once_do_not_lose_a_key(tmp_path: Path) -> None:
    """What another change left half done is refused, named, and not written over."""
    file = tmp_path / "keys"
    create_key_ring(file, os.urandom)
    before = file.read_bytes()
    (tmp_path / "keys.new").write_text("half")

    with pytest.raises(KeyRefused, match=r"keys\.new exists already"):
        add_key(file, os.urandom)

    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_keys_that_everybody_can_reach_are_refused(tmp_path: Path, mode: int) -> None:
    """The sentence names the file and what to do."""
    file = tmp_path / "keys"
    create_key_ring(file, os.urandom)
    file.chmod(mode)

    with pytest.raises(KeyRefused, match="every user of this machine") as refused:
        read_key_ring(file, os.urandom)

    assert (refused.value.exit_code, str(file) in str(refused.value)) == (ExitCode.CONFIG, True)
    assert "chmod 600" in refused.value.advice


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "there is no key"),
        ("# nothing but words\n", "there is no key"),
        (KEY[:-2] + "\n", "line 1 has not 64"),
        ("# words\n" + KEY + "ab\n", "line 2 has not 64"),
        (KEY + "\nno key\n", "line 2 is no key"),
        (KEY[:-1] + "\n", "line 1 is no key"),
        (" " + KEY + "\n", "line 1 has not 64"),
        ("#" * 16_385, "longer than"),
    ],
)
def test_what_is_no_ring_is_refused_without_repeating_it(
    tmp_path: Path, content: str, said: str
) -> None:
    """A short or garbled key is named by its line: most of a key is in it."""
    file = tmp_path / "keys"
    file.write_text(content)
    file.chmod(0o600)

    with pytest.raises(KeyRefused, match=said) as refused:
        read_key_ring(file, os.urandom)

    assert KEY[:16] not in str(refused.value)


def test_a_missing_ring_is_told_from_a_new_store(tmp_path: Path) -> None:
    """Nothing makes one beside a store; the sentence says where it comes from."""
    with pytest.raises(KeyRefused, match="no such file") as refused:
        read_key_ring(tmp_path / "keys", os.urandom)

    assert "backup" in refused.value.advice


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    """Whatever the system says is told, with the path."""
    with pytest.raises(KeyRefused, match="directory"):
        read_key_ring(tmp_path, os.urandom)
    with pytest.raises(KeyRefused, match="No such file"):
        create_key_ring(tmp_path / "gone" / "keys", os.urandom)
