"""Owns the session with one server: opens it, keeps it warm, and replaces it once it has ended.

Guards that a session is opened and closed in one task, that it is used only while what the server
shows is accepted, and that a session which ended is replaced for the next call and never for one
that was sent. A server that could not say that it shows something else is asked for each call.
Deliberately absent: a call's second attempt, and opening a session that nobody asked for, except
the first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from servicekit.invariant import invariant
from stage3_service.adapters.mcp.answer import read_error, read_result
from stage3_service.adapters.mcp.call import CARRIED, PendingCall
from stage3_service.adapters.mcp.session import Session
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.definition import (
    AcceptedDefinitions,
    Definition,
    DefinitionUnavailable,
)

CLOSE_TIMEOUT_S: Final = 10.0
"""A child is killed at the latest five seconds after it was asked to end."""

OnSession = Callable[[str, str], None]
"""Takes the domain's name and one sentence for the operator's log."""


class SessionUnavailable(Exception):
    """There is no session to send a call on; nothing was sent."""


class _NotAccepted(SessionUnavailable):
    """There was a session, whose server shows what nobody accepted."""

    def __init__(self, reason: str, shown: Definition) -> None:
        super().__init__(reason)
        self.shown = shown


@dataclass(frozen=True, slots=True)
class Ownership:
    """What one owner is handed. `accepted` None accepts nothing, so that nothing is called."""

    domain: str
    tools: Mapping[str, str]
    start_timeout_s: float
    open_session: Callable[[], Session]
    accepted: AcceptedDefinitions
    on_session: OnSession
    on_doubt: Callable[[str], None]
    """Takes the domain's name once its session has ended by itself, and may not wait."""


class SessionOwner:
    """One thread with one loop: calls come from any thread, and are carried on the loop."""

    def __init__(self, owned: Ownership) -> None:
        """Start the thread and begin to open the first session, whether or not it can be had."""
        self._owned = owned
        self._session: Session | None = None
        self._opening: asyncio.Task[Session] | None = None
        self._questions = 0
        self._living: set[asyncio.Task[None]] = set()
        self._carrying: dict[PendingCall, asyncio.Task[None]] = {}
        self._using: dict[Session, set[asyncio.Task[None]]] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name=f"mcp-{owned.domain}", daemon=True
        )
        self._thread.start()
        self._ready.wait()

    def submit(self, call: PendingCall) -> None:
        """Carry a call, unless the owner is closed: then it is ended as unreached."""
        self._on_loop(lambda: self._carry(call), lambda: call.end_without_answer("it is closed"))

    def abandon(self, call: PendingCall, waited_s: float) -> None:
        """Stop carrying a call that nobody waits for any more, `waited_s` after it was sent."""
        self._on_loop(lambda: self._leave(call, waited_s), lambda: None)

    def describe(self) -> Definition:
        """Fetch what the server shows now, on the session there is or on one opened for it.

        Raises:
            DefinitionUnavailable: the server is not reached in time, or shows nothing usable.

        """
        shown: Future[Definition] = Future()

        async def fetch() -> None:
            try:
                shown.set_result(await self._describe())
            except BaseException as error:  # noqa: BLE001 - whoever waits on another thread gets it
                shown.set_exception(error)

        closed = DefinitionUnavailable("the domain is closed")
        self._on_loop(lambda: self._keep(fetch()), lambda: shown.set_exception(closed))
        return shown.result()

    def close(self) -> None:
        """End the session and the thread. Calls under way are ended without an answer."""
        self._on_loop(self._stop.set, lambda: None)
        self._thread.join(CLOSE_TIMEOUT_S)

    # --- on the loop ------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        self._keep(self._first())
        await self._stop.wait()
        for call, task in self._carrying.items():
            call.end_without_answer("the domain is closed")
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()
        for session in self._using:
            session.transport.ended.set()
        while self._living:
            await asyncio.wait(self._living)

    def _on_loop(self, work: Callable[[], Any], closed: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop is closed
            closed()

    def _keep(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._living.add(task)
        task.add_done_callback(self._living.discard)

    async def _first(self) -> None:
        with suppress(SessionUnavailable):  # it was told; the next call tries again
            await self._usable()

    def _carry(self, call: PendingCall) -> None:
        if self._stop.is_set():
            call.end_without_answer("the domain is closed")
            return
        task = self._loop.create_task(self._send(call))
        self._carrying[call] = task
        task.add_done_callback(lambda _: self._carrying.pop(call, None))

    def _leave(self, call: PendingCall, waited_s: float) -> None:
        task = self._carrying.get(call)
        if task is None:
            return
        task.cancel()
        session = self._session
        if session is None:
            return
        if call.sent and self._loop.time() - session.transport.heard_s >= waited_s:
            # Not one byte since the call was sent: the server hangs, and so would the next call.
            self._owned.on_session(self._owned.domain, "the server hangs; its session is ended")
            session.transport.hangs = True
            session.transport.ended.set()

    async def _send(self, call: PendingCall) -> None:
        try:
            session = await self._usable()
        except SessionUnavailable as unavailable:
            call.end_without_answer(str(unavailable))
            return
        CARRIED.set(call)
        task = self._carrying[call]
        users = self._using.get(session, set())
        users.add(task)
        try:
            call.end(read_result(await session.send(call.request)))
        except MCPError as error:
            if call.answered:
                call.end(read_error(error.error.code, error.error.message))
            else:
                call.end_without_answer("the session ended without an answer")
        except ValidationError:
            call.end(AnswerInvalid("the answer is no result of a tool"))
        except AnswerInvalid as invalid:
            call.end(invalid)
        finally:
            users.discard(task)
            # Cancelled, or the library failed: no answer, and never a thread that waits for ever.
            call.end_without_answer("the call ended without an answer")

    async def _usable(self) -> Session:
        """Return a session whose server is accepted, opening one where there is none.

        Raises:
            SessionUnavailable: the server does not run, is not reached, or is not accepted.

        """
        before, session = self._questions, self._session
        if session is not None and self._stands(session) and self._opening is None:
            return session
        while True:
            if self._opening is None:
                self._opening = self._loop.create_task(self._open_next())
                self._opening.add_done_callback(_look_at)
            session = await asyncio.shield(self._opening)
            # One question answers every call that was there when it was put, and no later one.
            if session.question > before or self._stands(session):
                return session

    def _stands(self, session: Session) -> bool:
        """Say whether a session may carry a call on the strength of an earlier question."""
        return session.is_open and session.transport.hears and not session.changed

    async def _open_next(self) -> Session:
        try:
            return await self._open(self._session)
        finally:
            # Here and not once it is told to be done: whoever comes in between would wait for it
            # again and again, without end and without letting anybody else run.
            self._opening = None

    async def _open(self, before: Session | None) -> Session:
        session = before if before is not None and before.is_open else None
        try:
            async with asyncio.timeout(self._owned.start_timeout_s):
                shown = None if session is None else await self._shown_unless_ended(session)
                if session is None or shown is None:
                    session = await self._connected()
                    shown = await self._shown(session)
        except BaseException as error:
            self._session = None
            if session is not None:
                session.transport.ended.set()
            if isinstance(error, asyncio.CancelledError):
                raise SessionUnavailable("the domain is closed") from error
            reason = _reason(error, self._owned.start_timeout_s)
            self._owned.on_session(self._owned.domain, reason)
            raise SessionUnavailable(reason) from error
        if not self._owned.accepted.is_accepted(self._owned.domain, shown.digest):
            self._session = None
            session.transport.ended.set()
            reason = (
                "what the server shows of itself is not accepted: look at it with `stage3 domain "
                f"accept {self._owned.domain}`"
            )
            self._owned.on_session(self._owned.domain, reason)
            raise _NotAccepted(reason, shown)
        self._session = session
        return session

    async def _shown(self, session: Session) -> Definition:
        self._questions += 1
        session.question = self._questions
        session.changed = False
        session.definition = await session.shown(self._owned.tools)
        return session.definition

    async def _shown_unless_ended(self, session: Session) -> Definition | None:
        try:
            return await self._shown(session)
        except MCPError:
            if session.is_open:
                raise
            return None  # it had ended unseen, and carried nothing since

    async def _describe(self) -> Definition:
        session = self._session
        if session is None or not session.is_open:
            # As for a call, and shared with calls: never two programs at a time.
            try:
                session = await self._usable()
            except _NotAccepted as refused:
                return refused.shown
            except SessionUnavailable as unavailable:
                raise DefinitionUnavailable(str(unavailable)) from unavailable
            return invariant(session.definition, "a session is usable once it was asked")
        try:
            async with asyncio.timeout(self._owned.start_timeout_s):
                return await session.shown(self._owned.tools)
        except DefinitionUnavailable:
            raise
        except Exception as error:
            raise DefinitionUnavailable(_reason(error, self._owned.start_timeout_s)) from error
        finally:
            # What it showed may not be what was accepted: the next call asks again.
            session.changed = True

    async def _connected(self) -> Session:
        """Return a session after its handshake; a task of its own sees it to its end."""
        connected: asyncio.Future[Session] = self._loop.create_future()
        session = self._owned.open_session()
        self._using[session] = set()
        self._keep(self._live(session, connected))
        try:
            return await connected
        except BaseException:
            session.transport.hangs = True
            session.transport.ended.set()
            raise

    async def _live(self, session: Session, connected: asyncio.Future[Session]) -> None:
        """Open a session and, once it has ended, close it: both here, as the library asks."""
        opening = asyncio.current_task()
        entered = False

        async def give_up() -> None:
            await session.transport.ended.wait()
            if not entered and opening is not None:
                opening.cancel()

        giving_up = self._loop.create_task(give_up())
        try:
            async with session:
                entered = True
                if not connected.done():
                    connected.set_result(session)
                hearing = self._loop.create_task(session.hear())
                await session.transport.ended.wait()
                if session is self._session and not self._stop.is_set():
                    self._owned.on_doubt(self._owned.domain)
                # No further call is sent here. Those under way may still be answered: by a service
                # whose other connection was lost, or by a server that only shows something new.
                if not session.transport.hangs and (users := self._using[session]):
                    await asyncio.wait(users)
                hearing.cancel()
                await asyncio.wait([hearing])
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the session
            entered = True
            if not connected.done():
                connected.set_exception(_plain(error))
        finally:
            giving_up.cancel()
            del self._using[session]


def _look_at(opening: asyncio.Task[Session]) -> None:
    """Look at an error that nobody may be waiting for any more, or asyncio reports it."""
    if not opening.cancelled():
        opening.exception()


def _plain(error: BaseException) -> Exception:
    """Return the one error inside the groups that the library's task groups make."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, Exception):
        return error
    return SessionUnavailable("the server ended before it had answered the handshake")


def _reason(error: BaseException, start_timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"the server did not answer the handshake within {start_timeout_s:g} seconds"
    if isinstance(error, MCPError):
        return f"the server refused the handshake: {error.error.code}"
    if isinstance(error, ValidationError):
        return "the server answered the handshake with what is none"
    return str(error) or type(error).__name__
