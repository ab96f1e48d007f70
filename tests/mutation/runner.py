"""Run the tests of a module against its mutants, in children that have everything else loaded.

Most mutants are judged on a `Bench`, in one session of pytest. Those that change what an import
makes have a session each, in which the import system hands out the mutant in place of the module.
Deliberately absent: files. The tree is never changed, and nothing of one run is left for the next.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

from tests.mutation.bench import Bench, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from tests.mutation.operators import Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 240
# What no mutant changes, and what takes long to import.
SHARED: Final = (
    *("grpc", "grpc_status.rpc_status", "grpc_health.v1.health_pb2_grpc", "hypothesis", "apsw"),
    *("pydantic", "structlog", "cryptography.x509", "rfc8785", "jsonschema_rs", "typer", "rich"),
    *("prometheus_client", "servicekit.serving.server", "servicekit.store.ledger"),
    *("servicekit.settings", "servicekit.setting_types", "servicekit.certificates"),
)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Hand out one module with other source."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def find_spec(
        self, fullname: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Say that this module comes from here."""
        if fullname != self._name:
            return None
        file = ROOT / (fullname.replace(".", "/") + ".py")
        return importlib.util.spec_from_file_location(fullname, file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the mutant as the module."""
        exec(compile(self._source, f"<mutant of {self._name}>", "exec"), module.__dict__)  # noqa: S102 - the mutant is ours


def load_shared() -> None:
    """Import what all children need and no mutant changes; draw examples as `make test` does."""
    for name in SHARED:
        importlib.import_module(name)
    settings.register_profile("mutation", deadline=None, derandomize=True, database=None)
    settings.load_profile("mutation")
    stale = [name for name in sys.modules if name.startswith(("stage3_service", "stage4_service"))]
    if stale:
        message = f"{stale[0]} is loaded already: a mutant of it would not be seen"
        raise RuntimeError(message)


class TestsFail(Exception):
    """Say that a module's tests fail, or cannot be run, without any mutant."""


def verdicts(
    module: str, mutants: Sequence[Mutant], tests: Sequence[str]
) -> Iterator[tuple[Mutant, Verdict]]:
    """Judge each mutant of a module by these tests, in the order of the mutants.

    Raises:
        TestsFail: without any mutant too.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        said = os.fdopen(write, "w", buffering=1)
        _run_and_exit(tests, [Bench(module, mutants, lambda word: print(word, file=said))])
    os.close(write)
    with os.fdopen(read) as heard:
        for mutant, word in zip(mutants, heard, strict=False):
            if word.strip() not in Verdict.__members__:
                raise TestsFail(f"{module}: without any mutant fails {word.strip()}")
            verdict = Verdict[word.strip()]
            if verdict is Verdict.ELSEWHERE:
                verdict = _judge_by_import(module, mutant, tests)
            yield mutant, verdict
    if _end_of(child) != 0:
        raise TestsFail(f"{module}: its tests cannot be collected: {tests}")


def _judge_by_import(module: str, mutant: Mutant, tests: Sequence[str]) -> Verdict:
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT_S)
        sys.meta_path.insert(0, _Mutated(module, mutant.source))
        _run_and_exit(tests, [])
    return {0: Verdict.SURVIVED, -signal.SIGALRM: Verdict.HUNG}.get(_end_of(child), Verdict.KILLED)


def _end_of(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run_and_exit(tests: Sequence[str], plugins: Sequence[object]) -> None:
    # Whatever a mutant does, the child ends here: by its exit code, or by the alarm.
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    code = 1
    try:
        marks = "not ci and not long"
        options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", marks]
        if all(test.startswith("tests/unit/") for test in tests):
            # Unit tests need no service, and what is not imported takes no time.
            options.append("--noconftest")
        # Rewriting its assertions is for modules that pytest itself loads first.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = int(pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins))
    finally:
        os._exit(code)
