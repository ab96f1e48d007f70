"""Judge many mutants of a module by tests that are collected once.

The tests are collected and run with the module as it is, each noting which statements it comes to.
Then, for each mutant, a child is forked that exchanges the code of the changed function and runs
the tests that come to the changed statement, until one fails. Deliberately absent: mutants that
change what an import makes; those need a process that has not imported the module (`runner`).
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Final

import pytest

from tests.mutation.exchange import changed_functions, functions_of, live_functions
from tests.mutation.operators import unchanged
from tests.mutation.reach import REACHED, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from types import CodeType, FunctionType, ModuleType

    from tests.mutation.operators import Mutant

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory: no test here is about syncs
SLOWER_MAX: Final = 20.0
PATIENCE_S: Final = 15.0
"""A test hangs if it takes so many times as long as without the mutant, and this beside it."""


class Verdict(IntEnum):
    """Say what became of a mutant. The values are exit codes of the child that judged it."""

    SURVIVED = 0
    KILLED = 1
    HUNG = 2
    ELSEWHERE = 3
    """Not judged: it changes what an import makes, or no test was seen to come there."""


@dataclass(frozen=True, slots=True)
class _Test:
    """One collected test: how long it took without any mutant, and to which lines it came."""

    item: pytest.Item
    seconds: float
    lines: frozenset[int]


class Bench:
    """A plugin that runs a session's tests so.

    `tell` hears the verdict on each mutant, in their order, by name; or, in place of all, the test
    that fails without any.
    """

    def __init__(self, module: str, mutants: Sequence[Mutant], tell: Callable[[str], None]) -> None:
        self._module = module
        self._mutants = mutants
        self._tell = tell
        # Set in children only.
        self._fail: Callable[[], None] = lambda: None
        self._reached: set[int] = set()
        self._shared: set[int] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests with the module as it is, then for each mutant those that come to it."""
        module = importlib.import_module(self._module)
        source = Path(str(module.__file__)).read_text()
        plain, live = unchanged(source), live_functions(module)
        verdict, said = self._run_unchanged(session.items, module, source)
        if verdict is not Verdict.SURVIVED:
            self._tell(said)
            return True
        tests = _as_noted(session.items, said)
        kills: Counter[str] = Counter()
        for mutant in self._mutants:
            changed = changed_functions(plain, mutant.source)
            chosen = [test for test in tests if mutant.statement in test.lines]
            if changed is None or not changed.keys() <= live.keys() or not chosen:
                self._tell(Verdict.ELSEWHERE.name)
                continue
            # What noticed another mutant goes first, then what is quick.
            chosen.sort(key=lambda test: (-kills[test.item.nodeid], test.seconds))
            verdict, noticed_by = self._judge(changed, live, chosen)
            kills[noticed_by] += 1
            self._tell(verdict.name)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """End the child at the first failure."""
        if report.failed:
            self._fail()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        """Ascribe to every test what a shared fixture comes to: it may matter to each."""
        before = set(self._reached)
        made = yield
        if fixturedef.scope != "function":
            self._shared |= self._reached - before
        return made

    def _run_unchanged(
        self, items: Sequence[pytest.Item], module: ModuleType, source: str
    ) -> tuple[Verdict, str]:
        def run(notes: Path) -> None:
            vars(module)[REACHED] = self._reached.add
            live = live_functions(module)
            _exchange(live, {n: c for n, c in functions_of(noted(source)).items() if n in live})
            seen: list[object] = []
            for item, following in zip(items, [*items[1:], None], strict=True):
                self._reached.clear()
                notes.write_text(item.nodeid)
                start = time.monotonic()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                seen.append((time.monotonic() - start, sorted(self._reached)))
            notes.write_text(json.dumps([sorted(self._shared), *seen]))

        return self._in_child(run)

    def _judge(
        self,
        changed: Mapping[str, CodeType],
        live: Mapping[str, FunctionType],
        chosen: Sequence[_Test],
    ) -> tuple[Verdict, str]:
        verdict, said = self._in_child(partial(_run_changed, changed, live, chosen))
        if verdict is Verdict.SURVIVED:
            return verdict, said
        # A machine that stood still fails a test as well. The one that noticed is run again: as the
        # module is, which says how long it takes now, and with the mutant, before what follows it.
        noticed = next(test for test in chosen if test.item.nodeid == said)
        start = time.monotonic()
        self._in_child(partial(_run_changed, {}, live, [noticed]))
        now = replace(noticed, seconds=time.monotonic() - start)
        rest = [now, *chosen[chosen.index(noticed) + 1 :]]
        return self._in_child(partial(_run_changed, changed, live, rest))

    def _in_child(self, run: Callable[[Path], None]) -> tuple[Verdict, str]:
        """Run tests in a process group and a directory of their own; return what was noted last."""
        with _scratch() as scratch:
            notes = scratch / "notes"
            notes.touch()
            child = os.fork()
            if child == 0:
                os.setsid()
                os.environ["PYTEST_DEBUG_TEMPROOT"] = str(scratch)
                self._fail = lambda: os._exit(Verdict.KILLED)
                try:
                    run(notes)
                    os._exit(Verdict.SURVIVED)
                finally:
                    os._exit(Verdict.KILLED)
            _, status = os.waitpid(child, 0)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            # A mutant may end its process in any way: whatever is not the end of the tests noticed.
            verdict = Verdict(code) if code in {0, 1, 2} else Verdict.KILLED
            return verdict, notes.read_text()


def _as_noted(items: Sequence[pytest.Item], notes: str) -> Sequence[_Test]:
    shared, *each = json.loads(notes)
    return [
        _Test(item, seconds, frozenset([*lines, *shared]))
        for item, (seconds, lines) in zip(items, each, strict=True)
    ]


def _run_changed(
    changed: Mapping[str, CodeType],
    live: Mapping[str, FunctionType],
    chosen: Sequence[_Test],
    notes: Path,
) -> None:
    _exchange(live, changed)
    following = [*(test.item for test in chosen[1:]), None]
    for test, after in zip(chosen, following, strict=True):
        notes.write_text(test.item.nodeid)
        most_s = PATIENCE_S + SLOWER_MAX * test.seconds
        hung = Timer(most_s, os._exit, (Verdict.HUNG,))
        hung.start()
        test.item.config.hook.pytest_runtest_protocol(item=test.item, nextitem=after)
        hung.cancel()


def _exchange(live: Mapping[str, FunctionType], codes: Mapping[str, CodeType]) -> None:
    for name, code in codes.items():
        live[name].__code__ = code


@contextmanager
def _scratch() -> Iterator[Path]:
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="stagegate-mutant-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
