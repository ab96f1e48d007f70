"""One running pair for all tests of the command lines, and a stopped one to damage."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from examples.local_pair import LocalPair

PROGRAMS = Path(sys.executable).parent
# linux/prctl.h and linux/capability.h: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH.
_PR_CAPBSET_DROP = 24
_OVERRIDES = (1, 2)


class CommandLine:
    """Run commands of a pair and read what they say."""

    def __init__(self, pair: LocalPair) -> None:
        self.pair = pair

    def __call__(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        program, *arguments = words
        return self.pair.attempt(str(program), *arguments, environment=environment)

    def document(self, *words: str | Path) -> dict[str, object]:
        """Run a command that must succeed with --json; return its one document."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, object] = json.loads(done.stdout)
        return document

    def error(self, *words: str | Path, **environment: str) -> tuple[int, dict[str, object]]:
        """Run a command that must fail with --json; return its exit code and its error."""
        done = self(*words, "--json", **environment)
        assert done.returncode != 0, done.stdout
        assert done.stdout == ""
        document: dict[str, dict[str, object]] = json.loads(done.stderr)
        assert list(document) == ["error"]
        assert document["error"]["exit_code"] == done.returncode
        return done.returncode, document["error"]


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Return the commands of a running pair, which all tests of this folder share."""
    with LocalPair(tmp_path_factory.mktemp("cli") / "pair") as pair:
        pair.make()
        pair.start()
        yield CommandLine(pair)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> LocalPair:
    """Return a pair that was made and that nobody touches: `stopped` copies it."""
    pair = LocalPair(tmp_path_factory.mktemp("made") / "pair")
    pair.make()
    return pair


@pytest.fixture
def stopped(made: LocalPair, tmp_path: Path) -> LocalPair:
    """Return a pair that was made and never started, to damage."""
    pair = LocalPair(tmp_path / "pair")
    shutil.copytree(made.directory, pair.directory)
    for config in (pair.stage3_config, pair.stage4_config):
        text = config.read_text()
        config.write_text(text.replace(str(made.directory), str(pair.directory)))
    return pair


@pytest.fixture(scope="session")
def token_file(command: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a token for the examples' plans."""
    file = tmp_path_factory.mktemp("token") / "demo.token"
    command.document(
        *("stage3", "token", "issue", "--user", "operations", "--client", "demo"),
        *("--allow", "text:upper", "--allow", "notebook:append_note,list_notes,read_note"),
        *("--output", file),
    )
    return file


def give_up_privileges() -> None:
    """Let a program that this process executes next be stopped by modes of files, root's too."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in _OVERRIDES:
        # Whoever may not drop it does not have it either.
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def run_unprivileged(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that needs no service as a user whom modes of files stop."""
    return run_offline(program, *arguments, prepare=give_up_privileges)


def run_offline(
    program: str,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command that needs no service, in a clean environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [PROGRAMS / program, *map(str, arguments)],
        env={**kept, "COLUMNS": "200", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=prepare,
    )
