"""The builtin domain `notebook`: notes in a file of its own, the first run's visible effect.

Guards one promise: a note that was answered is on the disk, and one idempotency key writes at most
one note. Deliberately absent: changing and deleting notes, a clock (the audit log knows when), and
any share in the authority's own store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import apsw
from pydantic import BeforeValidator, Field

from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import (
    MethodRefused,
    Parameters,
    as_integer,
    declare,
    decode_parameters,
    encode_answer,
    example,
)
from stage3_service.adapters.builtin.notebook_file import open_notebook
from stage3_service.domains.declaration import MethodDeclaration, Repetition
from stage3_service.domains.port import (
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
)

MAX_LISTED = 100
"""Notes in one answer of `list_notes`; the next page starts after its last note."""

_MAX_ID = 2**53 - 1
_MAX_DURATION_S = 5.0


# The bounds stand before the reader of 1.0: the other way round the model enforces them and its
# schema, which gate 4 asks, does not mention them.
_NoteId = Annotated[int, Field(ge=1, le=_MAX_ID), BeforeValidator(as_integer)]


class AppendParameters(Parameters):
    """Parameters of `append_note`."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    text: Annotated[str, Field(max_length=65_536)]


class ReadParameters(Parameters):
    """Parameters of `read_note`."""

    note_id: _NoteId


class ListParameters(Parameters):
    """Parameters of `list_notes`; `after_note_id` is 0 for the first page."""

    after_note_id: Annotated[int, Field(ge=0, le=_MAX_ID), BeforeValidator(as_integer)]
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED), BeforeValidator(as_integer)]


APPEND = declare(
    "append_note",
    AppendParameters,
    "Writes one note and answers its number.",
    max_duration_s=_MAX_DURATION_S,
    max_response_bytes=128,
    repetition=Repetition.FENCING,
    shown=example({"title": "Greeting", "text": "hello"}, {"note_id": 1}),
)
READ = declare(
    "read_note",
    ReadParameters,
    "Reads one note.",
    max_duration_s=_MAX_DURATION_S,
    max_response_bytes=524_288,
    repetition=Repetition.IDEMPOTENT,
    shown=example({"note_id": 1}, {"note_id": 1, "title": "Greeting", "text": "hello"}),
)
LIST = declare(
    "list_notes",
    ListParameters,
    "Lists numbers and titles in the order of writing.",
    max_duration_s=_MAX_DURATION_S,
    max_response_bytes=262_144,
    repetition=Repetition.IDEMPOTENT,
    shown=example(
        {"after_note_id": 0, "limit": 10}, {"notes": [{"note_id": 1, "title": "Greeting"}]}
    ),
)

DECLARATIONS: Mapping[str, MethodDeclaration] = MappingProxyType(
    {declaration.name: declaration for declaration in (APPEND, READ, LIST)}
)
"""What `notebook` declares, by method."""


@dataclass(frozen=True, slots=True)
class _NotebookMethod:
    declaration: MethodDeclaration
    answer: Callable[[Invocation], JsonValue]


class Notebook:
    """One notebook file behind one connection, which one caller uses at a time.

    A failed commit leaves it unknown whether the note is on the disk. From then on the notebook
    refuses everything until it is opened again: after a failed sync SQLite and the kernel may
    both believe in pages that the disk does not have.
    """

    def __init__(self, path: Path, *, patience_s: float = _MAX_DURATION_S) -> None:
        """Open the notebook at `path`; `patience_s` is how long closing waits for a call.

        Raises:
            NotebookMissing: there is no such file.
            NotebookRefused: it cannot be used.

        """
        self._connection = open_notebook(path)
        self._lock = threading.Lock()
        self._unusable: str | None = None
        self._patience_s = patience_s
        self._methods = {
            APPEND.name: _NotebookMethod(APPEND, self._append),
            READ.name: _NotebookMethod(READ, self._read),
            LIST.name: _NotebookMethod(LIST, self._list),
        }

    def invoke(self, invocation: Invocation) -> Answer:
        """Run one method, after the calls before it.

        Raises:
            DomainUnreachable: the notebook is closed, failed earlier, or was busy for too long.
            DomainSilent: the commit failed, so whether the note is written is not known.

        """
        method = self._methods.get(invocation.method)
        if method is None:
            return MethodFailed("notebook has no such method")
        # Half of the time, so that a call that could not begin says so while its caller still
        # listens. Waiting to the end would make it a call in doubt, and write the note late.
        if not self._lock.acquire(timeout=invocation.deadline_s / 2):
            raise DomainUnreachable("the notebook is busy")
        try:
            if self._unusable is not None:
                raise DomainUnreachable(self._unusable)
            value = method.answer(invocation)
        except MethodRefused as refused:
            return MethodFailed(str(refused))
        finally:
            self._lock.release()
        return encode_answer(value, method.declaration)

    def close(self) -> None:
        """Refuse new calls and close the file after the call in progress, if any.

        A call that outlasts its own maximum hangs. Its file then stays open until the process
        ends: a service that is told to stop must not hang with it.
        """
        self._unusable = "the notebook is closed"
        if not self._lock.acquire(timeout=self._patience_s):
            return
        try:
            self._connection.close()
        finally:
            self._lock.release()

    def _append(self, invocation: Invocation) -> JsonValue:
        wanted = decode_parameters(AppendParameters, invocation.parameters_json)
        key = invocation.idempotency_key
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            note_id = self._write_once(key, wanted)
        except (apsw.Error, MethodRefused) as error:
            self._roll_back()
            if isinstance(error, MethodRefused):
                raise
            raise MethodRefused("the note could not be written") from error
        try:
            # A repetition ends its transaction here too, having written nothing.
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self._unusable = "an earlier commit failed; restart to open the notebook again"
            raise DomainSilent("the commit of the note failed") from error
        return {"note_id": note_id}

    def _write_once(self, key: str, wanted: AppendParameters) -> int:
        """Return the number of the note this key wrote, now or earlier."""
        rows = self._rows("SELECT note_id, title, text FROM note WHERE idempotency_key = ?", key)
        if not rows:
            self._rows(
                "INSERT INTO note (idempotency_key, title, text) VALUES (?, ?, ?)",
                key,
                wanted.title,
                wanted.text,
            )
            return self._connection.last_insert_rowid()
        note_id, title, text = rows[0]
        if (title, text) != (wanted.title, wanted.text):
            raise MethodRefused("the idempotency key has written another note")
        return int(str(note_id))

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after the worst errors; a second one would only raise.
        if not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except apsw.Error:
            # Nothing was committed, so this call had no effect; no further one may share its fate.
            self._unusable = "an earlier rollback failed; restart to open the notebook again"

    def _read(self, invocation: Invocation) -> JsonValue:
        wanted = decode_parameters(ReadParameters, invocation.parameters_json)
        rows = self._rows("SELECT title, text FROM note WHERE note_id = ?", wanted.note_id)
        if not rows:
            raise MethodRefused("there is no note of this number")
        title, text = rows[0]
        return {"note_id": wanted.note_id, "title": str(title), "text": str(text)}

    def _list(self, invocation: Invocation) -> JsonValue:
        wanted = decode_parameters(ListParameters, invocation.parameters_json)
        rows = self._rows(
            "SELECT note_id, title FROM note WHERE note_id > ? ORDER BY note_id LIMIT ?",
            wanted.after_note_id,
            wanted.limit,
        )
        return {"notes": [{"note_id": int(str(row[0])), "title": str(row[1])} for row in rows]}

    def _rows(self, sql: str, *parameters: int | str) -> list[tuple[apsw.SQLiteValue, ...]]:
        return list(self._connection.execute(sql, parameters))
