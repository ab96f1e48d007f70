"""Both services as processes of this machine: made, started, stopped or killed.

For the first run, and for tests and benches that need the real thing. It does what a person would
type, with the commands `stage3` and `stage4` beside this interpreter, and uses nothing else of this
project. Deliberately absent: waiting by the clock. A service says when it is ready.
"""

import fcntl
import json
import os
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 120.0
# What the caller's own shell has set must not reach into a pair that is somebody else's.
_OWN_VARIABLES = ("STAGE3_", "STAGE4_", "STAGEGATE_")
# A pipe has no width; this one shows a row of every table whole.
_COLUMNS = "116"

Tell = Callable[[str], None]


class PairFailed(Exception):
    """Something did not work; the text says what, and quotes what the service said."""


class LocalPair:
    """A Stage-3 and a Stage-4 whose certificates, settings and stores are in one directory.

    With `free_ports` the system chooses the ports at the first start, and both services keep them
    from then on; else they are the defaults. `stage3_program` and `stage4_program` take the place
    of the installed commands. `tell` hears each command before it is run.
    """

    def __init__(
        self,
        directory: Path,
        *,
        free_ports: bool = True,
        domains_file: Path | None = None,
        stage3_program: Sequence[str] | None = None,
        stage4_program: Sequence[str] | None = None,
        tell: Tell = lambda _command: None,
    ) -> None:
        self.directory = directory
        self.certificates = directory / "certs"
        self.stage3_config = directory / "stage3.toml"
        self.stage4_config = directory / "stage4.toml"
        self.stage3_store = directory / "stage3" / "stage3.sqlite3"
        self.stage4_store = directory / "stage4" / "stage4.sqlite3"
        self.operator_profile = self.certificates / "operator.toml"
        self.demo_profile = self.certificates / "demo.toml"
        self.auditor_profile = self.certificates / "auditor.toml"
        self.stage3_process: subprocess.Popen[bytes] | None = None
        self.stage4_process: subprocess.Popen[bytes] | None = None
        # By listener: plans, operators, probes; clients, probes. Known once a service was ready.
        self.stage3_addresses: dict[str, str] = {}
        self.stage4_addresses: dict[str, str] = {}
        self._free_ports = free_ports
        self._domains_file = domains_file
        self._programs = {
            "stage3": list(stage3_program or [installed_program("stage3")]),
            "stage4": list(stage4_program or [installed_program("stage4")]),
        }
        self._tell = tell

    # Making

    def make(self) -> None:
        """Make certificates, settings and stores of both services, with both stopped.

        Stage-4 learns Stage-3's address when it is started.
        """
        self.make_certificates()
        self.make_stage3()
        self.make_stage4()

    def make_certificates(self) -> None:
        """Make the development authority and everybody's certificate and profile."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run("stage3", "certs", "init", self.certificates)

    def make_stage3(self) -> None:
        """Make Stage-3's settings, store and notebook."""
        options: list[str | Path] = ["--free-ports"] if self._free_ports else []
        if self._domains_file is not None:
            options += ["--domains", self._domains_file]
        self.run("stage3", "init", self.directory, *options)

    def make_stage4(self) -> None:
        """Make Stage-4's settings and store."""
        options = ["--free-ports"] if self._free_ports else []
        if self.stage3_addresses:
            options += ["--stage3", self.stage3_addresses["plans"]]
        self.run("stage4", "init", self.directory, *options)

    # Starting and ending

    def start(self) -> None:
        """Start both services and return when both answer."""
        self.start_stage3()
        self.start_stage4()

    def start_stage3(self, environment: Mapping[str, str] | None = None) -> None:
        """Start Stage-3, at the addresses it had before if it had some."""
        addresses = self.stage3_addresses or self._chosen_by_the_system("plans", "operators")
        variables = _listen_variables("STAGE3", addresses) | dict(environment or {})
        self.stage3_process, self.stage3_addresses = self._serve(
            "stage3", self.stage3_config, variables
        )
        _set_address(self.operator_profile, self.stage3_addresses["operators"])

    def start_stage4(self, environment: Mapping[str, str] | None = None) -> None:
        """Start Stage-4, at the addresses it had before if it had some."""
        addresses = self.stage4_addresses or self._chosen_by_the_system("clients")
        variables = _listen_variables("STAGE4", addresses)
        if self.stage3_addresses:
            variables["STAGE4_STAGE3__ADDRESS"] = self.stage3_addresses["plans"]
        variables |= environment or {}
        self.stage4_process, self.stage4_addresses = self._serve(
            "stage4", self.stage4_config, variables
        )
        for profile in (self.demo_profile, self.auditor_profile):
            _set_address(profile, self.stage4_addresses["clients"])

    def stop(self) -> dict[str, int]:
        """Stop what runs, Stage-4 first, and return the exit code of each by name.

        Raises:
            PairFailed: one did not end in time; it was killed.
        """
        codes: dict[str, int] = {}
        late = []
        for name, process in self._running():
            process.terminate()
            try:
                codes[name] = process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
                late.append(name)
            _close(process)
        self.stage3_process = self.stage4_process = None
        if late:
            raise PairFailed(f"{' and '.join(late)} did not stop in {STOP_TIMEOUT_S:g} s: killed")
        return codes

    def kill(self) -> None:
        """End what runs without a word, as a power cut would (SIGKILL)."""
        for _name, process in self._running():
            process.kill()
            process.wait()
            _close(process)
        self.stage3_process = self.stage4_process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    # Using

    def run(
        self, program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a command as the operator, or as the client `demo`; return what it printed.

        Raises:
            PairFailed: its exit code was not 0.
        """
        self._tell(command_line(program, arguments))
        done = self.attempt(program, *arguments, environment=environment)
        if done.returncode != 0:
            raise PairFailed(
                f"`{command_line(program, arguments)}` ended with {done.returncode}:\n"
                f"{done.stderr.rstrip()}"
            )
        return done.stdout

    def attempt(
        self, program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as `run` does, and return whatever came of it."""
        profiles = {
            "STAGE3_PROFILE": str(self.operator_profile),
            "STAGE4_PROFILE": str(self.demo_profile),
        }
        return subprocess.run(
            [*self._programs[program], *map(str, arguments)],
            env=_clean_environment() | {"COLUMNS": _COLUMNS} | profiles | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def log_of(self, program: str) -> Path:
        """Return the file that a service's log lines go to."""
        return self.directory / f"{program}.log"

    def _serve(
        self, program: str, config: Path, variables: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
        self._tell(command_line(program, ["serve", "--config", config]))
        # Absolute, so that the process can be told from its command even when its files are gone.
        arguments = ["serve", "--config", str(config.absolute())]
        with os.fdopen(_open_log(self.log_of(program)), "ab") as log:
            start_of_log = log.tell()
            process = subprocess.Popen(
                [*self._programs[program], *arguments, "--json"],
                env=_clean_environment() | dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for whoever started the pair, who then stops it in order.
                start_new_session=True,
            )
        try:
            return process, _await_ready(process)
        except PairFailed as failed:
            process.kill()
            process.wait()
            _close(process)
            with self.log_of(program).open("rb") as log:
                log.seek(start_of_log)
                said = log.read().decode("utf-8", "replace")
            raise PairFailed(f"{program} {failed}\n{_last_words(said)}") from None

    def _chosen_by_the_system(self, *names: str) -> dict[str, str]:
        # Also for settings that were made with ports of their own.
        return (
            dict.fromkeys((*names, "probes", "metrics"), "127.0.0.1:0") if self._free_ports else {}
        )

    def _running(self) -> list[tuple[str, subprocess.Popen[bytes]]]:
        both = (("stage4", self.stage4_process), ("stage3", self.stage3_process))
        return [(name, process) for name, process in both if process is not None]


def installed_program(name: str) -> str:
    """Return the path of a command beside this interpreter.

    Raises:
        PairFailed: this environment does not have it.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise PairFailed(f"{path} is missing: run `make setup` first")
    return str(path)


def command_line(program: str, arguments: Sequence[str | Path]) -> str:
    """Return a command as a person would type it."""
    return shlex.join([program, *map(str, arguments)])


def holder_of(store: Path) -> int | None:
    """Return the process that has a store open for writing, or None. The kernel knows: a lock."""
    try:
        descriptor = os.open(store.with_name(store.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32) or b"0")
    finally:
        os.close(descriptor)
    return None


def _await_ready(process: subprocess.Popen[bytes]) -> dict[str, str]:
    """Return the addresses that a service says it listens at, once it answers there."""
    if process.stdout is None:
        raise PairFailed("was started without a pipe")
    pipe = process.stdout.fileno()
    deadline = time.monotonic() + START_TIMEOUT_S
    said = b""
    while not said.endswith(b"\n"):
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0 or not select.select([pipe], [], [], remaining_s)[0]:
            raise PairFailed(f"was not ready in {START_TIMEOUT_S:g} s")
        chunk = os.read(pipe, 65_536)
        if not chunk:
            raise PairFailed(f"ended with exit code {process.wait(STOP_TIMEOUT_S)}:")
        said += chunk
    listeners: dict[str, str] = json.loads(said)["listeners"]
    return listeners


def _last_words(log: str) -> str:
    """Return the error that a service ended with, or the end of its log when it left none."""
    start = log.rfind('{\n  "error"')
    if start < 0:
        return "\n".join(log.splitlines()[-10:])
    error = json.loads(log[start:])["error"]
    return "\n".join(
        [
            f"{error['reason']}: {error['message']}",
            *(f"  - {problem}" for problem in error["problems"]),
            f"  next: {error['advice']}",
        ]
    )


def _open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _listen_variables(prefix: str, addresses: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}_LISTEN__{name.upper()}": address for name, address in addresses.items()}


def _clean_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)
    }


def _set_address(profile: Path, address: str) -> None:
    text = profile.read_text(encoding="utf-8")
    changed = re.sub(r"(?m)^address = .*$", f'address = "{address}"', text)
    if changed != text:
        profile.write_text(changed, encoding="utf-8")


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is not None:
        process.stdout.close()
