"""What is committed says nothing about the machine it was written on, and keeps no secret."""

import re

import pytest

from tests.house.tree import ROOT, shown, source_files

# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "the Python registry": re.escape("pypi" + ".org"),
    "the Python registry's files": re.escape("pythonhosted" + ".org"),
    "the Node registry": re.escape("registry." + "npmjs"),
    "Debian's registry": re.escape("deb." + "debian.org"),
    "a work folder": "(?<![A-Za-z0-9_.~-])" + "/work" + "/",
    "a home folder": "(?<![A-Za-z0-9_.~}-])/(root|home/[a-z]+)" + "/",
    "a local registry": "/opt/" + "(pypi|wheels)",
    "a private key": "-----BEGIN [A-Z ]*PRIVATE KEY-----[\\sA-Za-z0-9+/=\\\\]{40}",
    "a presented credential": "token_"
    "(?!(?:A{43}|B{43}|[a-z_]{43}))[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])",
}


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_no_file_names(pattern: str) -> None:
    """No committed file holds a registry's host, a path of one machine or a secret."""
    found = [
        f"{shown(path)}: {match[0][:60]}"
        for path in source_files()
        for match in re.finditer(pattern, path.read_text(encoding="utf-8", errors="replace"))
    ]

    assert found == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a work folder", "see /" + "work/notes"),
        ("a private key", "-----BEGIN EC PRIVATE KEY-----\n" + "MHcCAQEE" * 6),
        ("a presented credential", "token" + "_3q2-7wHn0" * 4 + "kLmN"),
        ("the Python registry", "https://" + "pypi" + ".org/simple"),
    ],
)
def test_the_patterns_find_what_they_are_for(name: str, text: str) -> None:
    """The control: each kind of text, written out, is found."""
    assert re.search(FORBIDDEN[name], text) is not None


def test_every_file_ends_with_one_line_feed_and_holds_no_carriage_return() -> None:
    """Text files are text: one line ending, and a last line that ends."""
    text_suffixes = {".py", ".pyi", ".toml", ".md", ".proto", ".json", ".yaml", ".sh", ".lock"}
    wrong = [
        shown(path)
        for path in source_files()
        if path.suffix in text_suffixes
        and path.is_relative_to(ROOT)
        and (data := path.read_bytes())
        and (b"\r" in data or not data.endswith(b"\n") or data.endswith(b"\n\n"))
    ]

    assert wrong == []
