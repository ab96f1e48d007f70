"""The notebook: what was answered is on the disk, one key writes one note, trouble has one name."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from stage3_service.adapters.bounded_call import BoundedCall
from stage3_service.adapters.builtin.notebook import DECLARATIONS, Notebook
from stage3_service.adapters.builtin.notebook_file import (
    NotebookExists,
    NotebookMissing,
    NotebookRefused,
    create_notebook,
    open_notebook,
)
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import (
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A notebook that exists."""
    made = tmp_path / "notes.sqlite3"
    create_notebook(made)
    return made


@pytest.fixture
def notebook(path: Path) -> Iterator[Notebook]:
    """An open notebook."""
    opened = Notebook(path)
    yield opened
    opened.close()


def _invocation(
    method: str, key: str, deadline_s: float = 10.0, **parameters: object
) -> Invocation:
    return Invocation(method, json.dumps(parameters).encode(), deadline_s, key)


def _append(notebook: Notebook, key: str, title: str = "Title", text: str = "Text") -> Answer:
    return notebook.invoke(_invocation("append_note", key, title=title, text=text))


def _rows(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = list(connection.execute("SELECT idempotency_key, title, text FROM note"))
    connection.close()
    return rows


class _Failing:
    """A connection on which the statements that begin with `words` fail."""

    def __init__(self, connection: apsw.Connection, *words: str) -> None:
        self._connection = connection
        self._words = words

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def execute(self, sql: str, *arguments: object) -> object:
        if sql.startswith(self._words):
            raise apsw.IOError(sql)
        return self._connection.execute(sql, *arguments)  # type: ignore[arg-type]


def _fail(notebook: Notebook, *words: str) -> None:
    notebook._connection = _Failing(notebook._connection, *words)  # type: ignore[assignment]


def test_an_answered_note_is_read_by_another_connection(notebook: Notebook, path: Path) -> None:
    """The effect is visible outside the process's own connection."""
    assert _append(notebook, "p/0", "A", "b") == Output(b'{"note_id":1}')
    assert _rows(path) == [("p/0", "A", "b")]


def test_a_note_survives_reopening(notebook: Notebook, path: Path) -> None:
    """And the key is still known, so a repetition writes nothing."""
    _append(notebook, "p/0", "A", "b")
    notebook.close()
    again = Notebook(path)
    assert _append(again, "p/0", "A", "b") == Output(b'{"note_id":1}')
    again.close()
    assert len(_rows(path)) == 1


@pytest.mark.parametrize(("title", "text"), [("A", "c"), ("B", "b"), ("b", "A")])
def test_the_same_key_with_another_note_is_refused(
    notebook: Notebook, path: Path, title: str, text: str
) -> None:
    """A key stands for one step; another title or text under it is somebody's mistake."""
    _append(notebook, "p/0", "A", "b")
    assert _append(notebook, "p/0", title, text) == MethodFailed(
        "the idempotency key has written another note"
    )
    assert _rows(path) == [("p/0", "A", "b")]


def test_the_same_note_under_another_key_is_another_note(notebook: Notebook, path: Path) -> None:
    """Only the key makes a repetition."""
    assert _append(notebook, "p/0") == Output(b'{"note_id":1}')
    assert _append(notebook, "p/1") == Output(b'{"note_id":2}')
    assert len(_rows(path)) == 2


def test_many_callers_write_each_key_once(notebook: Notebook, path: Path) -> None:
    """Four callers present each of 25 keys: 25 notes, and all four hear the same number."""
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda n: _append(notebook, f"p/{n % 25}"), range(100)))
    assert len(_rows(path)) == 25
    for number in range(25):
        assert len({answers[number + 25 * turn] for turn in range(4)}) == 1


def test_a_notebook_is_made_readable_by_its_owner_only(path: Path) -> None:
    """Notes are the deployment's data."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_is_durable_by_its_own_settings(notebook: Notebook) -> None:
    """WAL and FULL are what the open connection answers, not what it was asked for."""
    assert notebook._connection.pragma("journal_mode") == "wal"
    assert notebook._connection.pragma("synchronous") == 2


def test_the_files_name_is_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is synced after the file is complete, or a power loss may forget the file."""
    synced: list[tuple[int, bool]] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "notes.sqlite3").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    create_notebook(tmp_path / "notes.sqlite3")
    assert synced[-1] == (tmp_path.stat().st_ino, True)


def test_an_existing_file_is_never_made_anew(path: Path) -> None:
    """Creation refuses and changes nothing."""
    before = path.read_bytes()
    with pytest.raises(NotebookExists, match="move it away first"):
        create_notebook(path)
    assert path.read_bytes() == before


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    """Creation says what the system said."""
    with pytest.raises(NotebookRefused, match=r"cannot be created \(No such file or directory\)"):
        create_notebook(tmp_path / "none" / "notes.sqlite3")


def test_a_missing_notebook_is_a_clear_error_and_is_not_created(tmp_path: Path) -> None:
    """Opening names the path and the command, and leaves nothing behind."""
    missing = tmp_path / "notes.sqlite3"
    with pytest.raises(NotebookMissing, match="stage3 init") as caught:
        Notebook(missing)
    assert str(missing) in str(caught.value)
    assert not missing.exists()


@pytest.mark.parametrize(
    ("pragma", "problem"),
    [("application_id = 7", "is not a notebook"), ("user_version = 99", "has another version")],
)
def test_a_file_of_another_kind_is_refused(path: Path, pragma: str, problem: str) -> None:
    """Another database, or a notebook of another version, is left alone."""
    connection = apsw.Connection(os.fspath(path))
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(NotebookRefused, match=problem):
        open_notebook(path)


@pytest.mark.parametrize(
    "content", [b"not a database " * 500, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """Damage at the start of the file is found at the start of the service."""
    path = tmp_path / "notes.sqlite3"
    path.write_bytes(content)
    with pytest.raises(NotebookRefused):
        open_notebook(path)


def test_a_directory_in_place_of_the_notebook_is_missing(tmp_path: Path) -> None:
    """It is not a file, so there is no notebook."""
    with pytest.raises(NotebookMissing):
        open_notebook(tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's own error becomes the notebook's, by type and without its text."""

    def refuse(*arguments: object, **options: object) -> apsw.Connection:
        raise apsw.CantOpenError("secret text")

    monkeypatch.setattr(apsw, "Connection", refuse)
    with pytest.raises(NotebookRefused, match=r"cannot be opened \(CantOpenError\)"):
        open_notebook(path)


def test_a_write_that_fails_before_the_commit_has_no_effect(notebook: Notebook, path: Path) -> None:
    """It is a failure, not a doubt, and the notebook goes on."""
    whole = notebook._connection
    _fail(notebook, "INSERT")
    assert _append(notebook, "p/0") == MethodFailed("the note could not be written")
    assert _rows(path) == []
    notebook._connection = whole
    assert _append(notebook, "p/0") == Output(b'{"note_id":1}')


def test_a_notebook_locked_by_another_process_fails_without_effect(
    notebook: Notebook, path: Path
) -> None:
    """Nothing waits for a lock that nobody promised to release."""
    other = apsw.Connection(os.fspath(path))
    other.execute("BEGIN IMMEDIATE")
    assert _append(notebook, "p/0") == MethodFailed("the note could not be written")
    other.execute("ROLLBACK")
    other.close()
    assert _append(notebook, "p/0") == Output(b'{"note_id":1}')


def test_a_failed_commit_is_in_doubt_and_ends_the_notebook(notebook: Notebook) -> None:
    """Whether the note is on the disk is not known; nothing further may build on it."""
    whole = notebook._connection
    _fail(notebook, "COMMIT")
    with pytest.raises(DomainSilent, match="commit"):
        _append(notebook, "p/0")
    notebook._connection = whole
    for method in ("append_note", "read_note", "list_notes"):
        with pytest.raises(DomainUnreachable, match="restart"):
            notebook.invoke(_invocation(method, "p/1"))


def test_a_failed_rollback_has_no_effect_and_ends_the_notebook(
    notebook: Notebook, path: Path
) -> None:
    """The open transaction must not swallow the next note."""
    whole = notebook._connection
    _fail(notebook, "INSERT", "ROLLBACK")
    assert _append(notebook, "p/0") == MethodFailed("the note could not be written")
    notebook._connection = whole
    with pytest.raises(DomainUnreachable, match="restart"):
        _append(notebook, "p/1")
    assert _rows(path) == []


def test_a_busy_notebook_is_unreachable_while_its_caller_still_listens(
    notebook: Notebook, path: Path
) -> None:
    """A call that waited in vain had no effect, and writes nothing afterwards either."""
    with notebook._lock, pytest.raises(DomainUnreachable, match="busy"):
        notebook.invoke(_invocation("append_note", "p/0", deadline_s=0.02, title="t", text=""))
    assert _rows(path) == []


class _Busy:
    """A lock that somebody else holds for as long as anybody waits. `waits_s` are those waits."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    def acquire(self, *, timeout: float) -> bool:
        """Wait in vain, in no time."""
        self.waits_s.append(timeout)
        return False


def test_a_busy_notebook_is_no_call_in_doubt(
    notebook: Notebook, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind its time limit too: the caller hears that nothing began before its own time is up."""
    busy = _Busy()
    bounded = BoundedCall(
        DomainDeclaration("notes", "builtin", "notebook", DECLARATIONS),
        notebook,
        on_late=lambda key, answer: None,
        on_raised=lambda raised: None,
    )
    with monkeypatch.context() as held:
        held.setattr(notebook, "_lock", busy)
        with pytest.raises(DomainUnreachable, match="busy"):
            bounded.invoke(_invocation("append_note", "p/0", deadline_s=4.0, title="t", text=""))
    assert busy.waits_s == [2.0]
    assert bounded.abandoned == 0
    bounded.close()
    assert _rows(path) == []


def test_a_closed_notebook_is_unreachable(notebook: Notebook) -> None:
    """Also when it is closed while callers wait."""
    notebook.close()
    with pytest.raises(DomainUnreachable, match="closed"):
        _append(notebook, "p/0")


def test_closing_waits_for_the_call_in_progress(notebook: Notebook) -> None:
    """A note half written when the service stops would be one in doubt for no reason."""
    closed = threading.Event()

    def close() -> None:
        notebook.close()
        closed.set()

    with notebook._lock:
        closer = threading.Thread(target=close)
        closer.start()
        assert not closed.wait(0.05)
    assert closed.wait(10)
    closer.join()


def test_closing_does_not_hang_with_a_call_that_hangs(path: Path) -> None:
    """The file stays open, new calls are refused, and the service ends."""
    notebook = Notebook(path, patience_s=0.01)
    with notebook._lock:
        notebook.close()
    with pytest.raises(DomainUnreachable, match="closed"):
        _append(notebook, "p/0")
    notebook.close()


class _FailingSync(apsw.VFS):
    """A file system whose syncs of the log fail while `failing` is set, as a broken disk's do."""

    def __init__(self, name: str) -> None:
        super().__init__(name, base="")
        self.failing = False

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _FailingSyncFile:
        return _FailingSyncFile(self, name, flags)


class _FailingSyncFile(apsw.VFSFile):
    def __init__(
        self, vfs: _FailingSync, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs

    def xSync(self, flags: int) -> None:
        if self._vfs.failing:
            raise apsw.IOError("sync failed")
        super().xSync(flags)


def test_a_disk_that_fails_to_sync_leaves_the_step_in_doubt_and_the_key_fenced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real failing fsync: silence, then nothing; reopened, the key still writes at most once."""
    vfs = _FailingSync("failing-sync")
    connect = apsw.Connection

    def through_vfs(filename: str, **options: int) -> apsw.Connection:
        return connect(filename, vfs="failing-sync", **options)

    monkeypatch.setattr(apsw, "Connection", through_vfs)
    notebook = Notebook(path)
    assert _append(notebook, "p/0") == Output(b'{"note_id":1}')
    vfs.failing = True
    with pytest.raises(DomainSilent):
        _append(notebook, "p/1")
    vfs.failing = False
    # The control: the disk works again, and a notebook that trusted it would go on.
    with pytest.raises(DomainUnreachable, match="restart"):
        _append(notebook, "p/2")
    notebook.close()
    again = Notebook(path)
    assert isinstance(_append(again, "p/1"), Output)
    again.close()
    monkeypatch.undo()
    assert {row[0] for row in _rows(path)} == {"p/0", "p/1"}
    assert len(_rows(path)) == 2


def test_a_method_the_notebook_does_not_have_fails(notebook: Notebook) -> None:
    """The domain has its own closed list, behind everybody else's."""
    answer = notebook.invoke(_invocation("delete_note", "p/0", note_id=1))
    assert answer == MethodFailed("notebook has no such method")
