"""Files of a certificate that change under a running process, one state of them at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from servicekit.certificates import LEAF_LIFETIME, create_authority, issue_caller, issue_server
from servicekit.serving.rotation import LOOK_AGAIN, Rotation
from servicekit.serving.tls import (
    Credential,
    CredentialFiles,
    CredentialRefused,
    read_server_credential,
)
from tests.fakes.manual_clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "stage3.stagegate.test"


class Served:
    """A server's files in use, and material to replace them with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.log = CapturingLogger()
        self.reads = 0
        self.on_read: Callable[[], None] = lambda: None
        create_authority(directory, "stagegate.test", NOW)
        self.issue("used")
        self.rotation = Rotation(
            CredentialFiles(self.file("used.crt"), self.file("used.key"), self.file("ca.crt")),
            self._read,
            clock=self.clock,
            log=self.log,
        )

    def file(self, name: str) -> Path:
        """Return a file of the directory."""
        return self.directory / name

    def issue(self, name: str, now: datetime = NOW) -> None:
        """Issue a server's certificate beside the one in use."""
        issue_server(self.directory, name, NAME, now)

    def put(self, source: str, target: str) -> None:
        """Replace a file atomically, as the documentation asks for."""
        fresh = self.file(f"{target}.new")
        shutil.copy(self.file(source), fresh)
        fresh.replace(self.file(target))

    def events(self) -> list[str]:
        """Return the log so far, by the names of events."""
        return [call.args[0] for call in self.log.calls]

    def _read(self, files: CredentialFiles, now: datetime) -> Credential:
        self.reads += 1
        self.on_read()
        return read_server_credential(files, now)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Return files in use."""
    return Served(tmp_path)


def test_unchanged_files_are_read_once(served: Served) -> None:
    """However often they are asked for, the same object is the answer."""
    answers = {id(served.rotation.current()) for _ in range(100)}
    assert (len(answers), served.reads, served.events()) == (1, 1, [])


def test_files_that_cannot_be_used_at_the_start_are_refused(served: Served) -> None:
    """There is nothing to fall back to."""
    files = CredentialFiles(served.file("absent"), served.file("used.key"), served.file("ca.crt"))
    with pytest.raises(CredentialRefused, match="absent"):
        Rotation(files, read_server_credential, clock=served.clock, log=served.log)


@pytest.mark.parametrize("order", [("crt", "key"), ("key", "crt")])
def test_a_replaced_pair_is_used_once_it_is_whole(served: Served, order: tuple[str, str]) -> None:
    """In between, certificate and key are of two pairs: what was used before is, and one line."""
    before = served.rotation.current()
    served.issue("fresh")
    served.put(f"fresh.{order[0]}", f"used.{order[0]}")
    between = [served.rotation.current() for _ in range(10)]
    assert {id(each) for each in between} == {id(before)}
    assert served.events() == ["certificate_not_replaced"]

    served.put(f"fresh.{order[1]}", f"used.{order[1]}")
    after = served.rotation.current()
    assert after.serial_number != before.serial_number
    assert after.chain == served.file("fresh.crt").read_bytes()
    assert served.events() == ["certificate_not_replaced", "certificate_replaced"]
    assert served.rotation.current() is after


def half_written(served: Served) -> str:
    """Write half of a certificate over the one in use."""
    whole = served.file("fresh.crt").read_bytes()
    served.file("used.crt").write_bytes(whole[: len(whole) // 2])
    return "used.crt"


def half_a_bundle(served: Served) -> str:
    """Write the authority's certificate, and half of a second one behind it."""
    authority = served.file("ca.crt").read_bytes()
    served.file("ca.crt").write_bytes(authority + authority[: len(authority) // 2])
    return "ca.crt"


def of_another_pair(served: Served) -> str:
    """Replace the certificate and leave the key."""
    served.put("fresh.crt", "used.crt")
    return "used.key"


def expired(served: Served) -> str:
    """Put a pair whose time has passed."""
    served.issue("old", NOW - 2 * LEAF_LIFETIME)
    for kind in ("crt", "key"):
        served.put(f"old.{kind}", f"used.{kind}")
    return "used.crt"


def of_a_caller(served: Served) -> str:
    """Put a pair that is perfect, for a client."""
    issue_caller(served.directory, "client", "spiffe://stagegate.test/client/a", NOW)
    for kind in ("crt", "key"):
        served.put(f"client.{kind}", f"used.{kind}")
    return "used.crt"


def exposed(served: Served) -> str:
    """Let everybody read the key."""
    served.file("used.key").chmod(0o644)
    return "used.key"


def removed(served: Served) -> str:
    """Take the authority away."""
    served.file("ca.crt").unlink()
    return "ca.crt"


def no_authority(served: Served) -> str:
    """Put a certificate that is no authority's in the authority's place."""
    served.put("fresh.crt", "ca.crt")
    return "ca.crt"


BROKEN = (
    half_written,
    half_a_bundle,
    of_another_pair,
    expired,
    of_a_caller,
    exposed,
    removed,
    no_authority,
)


@pytest.mark.parametrize("damage", BROKEN)
def test_what_a_start_would_refuse_is_not_used(
    served: Served, damage: Callable[[Served], str]
) -> None:
    """The log names the file, why and what to do, once; reading stops until the files change."""
    before = served.rotation.current()
    served.issue("fresh")
    file = damage(served)
    answers = {id(served.rotation.current()) for _ in range(50)}

    assert answers == {id(before)}
    assert served.reads == 2
    (line,) = served.log.calls
    assert line.args == ("certificate_not_replaced",)
    assert line.kwargs["file"] == str(served.file(file))
    assert line.kwargs["description"]
    assert line.kwargs["advice"]
    with pytest.raises(CredentialRefused):
        read_server_credential(
            CredentialFiles(
                served.file("used.crt"), served.file("used.key"), served.file("ca.crt")
            ),
            NOW,
        )


@pytest.mark.parametrize("damage", BROKEN)
def test_a_repaired_pair_is_used(served: Served, damage: Callable[[Served], str]) -> None:
    """A broken rotation is over when the files are right, without anybody's hand on the process."""
    shutil.copy(served.file("ca.crt"), served.file("kept-ca.crt"))
    before = served.rotation.current()
    served.issue("fresh")
    damage(served)
    served.rotation.current()
    for source, target in (
        ("fresh.crt", "used.crt"),
        ("fresh.key", "used.key"),
        ("kept-ca.crt", "ca.crt"),
    ):
        served.put(source, target)

    after = served.rotation.current()
    assert after.chain == served.file("fresh.crt").read_bytes() != before.chain


def test_a_certificate_that_is_valid_later_is_used_later(served: Served) -> None:
    """Waiting changes no file, so refused files are looked at again by the clock, unlogged."""
    before = served.rotation.current()
    served.issue("early", NOW + timedelta(hours=1))
    for kind in ("crt", "key"):
        served.put(f"early.{kind}", f"used.{kind}")
    assert served.rotation.current() is before
    served.clock.advance(LOOK_AGAIN.total_seconds())
    assert served.rotation.current() is before
    assert (served.reads, served.events()) == (3, ["certificate_not_replaced"])

    served.clock.advance(3600)
    assert served.rotation.current() is not before
    assert served.events() == ["certificate_not_replaced", "certificate_replaced"]


def test_files_that_hold_the_same_as_before_are_no_replacement(served: Served) -> None:
    """Touched, copied over themselves, or broken and restored: the same object."""
    before = served.rotation.current()
    for kind in ("crt", "key"):
        shutil.copy(served.file(f"used.{kind}"), served.file(f"kept.{kind}"))
        served.put(f"kept.{kind}", f"used.{kind}")
    assert served.rotation.current() is before
    assert (served.reads, served.events()) == (2, [])
    served.file("used.key").unlink()
    assert served.rotation.current() is before
    served.put("kept.key", "used.key")
    assert served.rotation.current() is before
    assert served.events() == ["certificate_not_replaced"]


def test_a_replacement_between_looking_and_reading_is_one_replacement(served: Served) -> None:
    """What was read is newer than what was looked at: the next look finds nothing new in it."""
    served.issue("fresh")
    served.put("fresh.key", "used.key")
    served.on_read = lambda: served.put("fresh.crt", "used.crt")
    after = served.rotation.current()
    assert after.chain == served.file("fresh.crt").read_bytes()
    served.on_read = lambda: None
    assert served.rotation.current() is after
    assert (served.reads, served.events()) == (3, ["certificate_replaced"])


def test_the_time_left_is_that_of_the_certificate_in_use(served: Served) -> None:
    """What an alert watches: a rotation that was refused does not hide that the time runs out."""
    assert served.rotation.remaining_s() == LEAF_LIFETIME.total_seconds()
    served.clock.advance(LEAF_LIFETIME.total_seconds() + 1)
    assert served.rotation.remaining_s() == -1.0
    served.file("used.key").unlink()
    assert served.rotation.remaining_s() == -1.0


def test_nothing_secret_is_shown(served: Served) -> None:
    """A credential prints without its key, in a log or a traceback."""
    shown = repr(served.rotation.current())
    assert "PRIVATE" not in shown
    assert "BEGIN" not in shown
