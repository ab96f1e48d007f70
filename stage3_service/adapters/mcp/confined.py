"""Runs one MCP server in place of this process, with as little of the machine as it was given.

Guards Stage-3 from its children: a server runs under another uid and inside Landlock before its
first instruction, so that it can open neither the store nor a key. Deliberately absent: a way to
run when any of it fails. The one argument is a `Confinement` as JSON; why it was refused is
written to the descriptor that it names, which closes by itself once the server runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import resource
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from stage3_service.adapters.mcp import landlock

EXIT_CONFIG: Final = 78
"""`EX_CONFIG`: the confinement that was declared cannot be made."""

SYSTEM_PATHS: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
)
"""What programs of the system need to run at all, and nothing that is private on any machine."""

SYSTEM_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

_MAX_OPEN_FILES: Final = 1024
_MAX_SECRET_BYTES: Final = 65_536
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITIES_V3: Final = 0x20080522


@dataclass(frozen=True, slots=True)
class Confinement:
    """All that one child is given. `user` None leaves it Stage-3's own uid, and no Landlock.

    `environment_files` name files whose content becomes a variable: it is read here, before the
    uid is given up, and never by the service.
    """

    command: tuple[str, ...]
    working_directory: str
    environment: dict[str, str] = field(default_factory=dict)
    environment_files: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    readable_paths: tuple[str, ...] = ()
    writable_paths: tuple[str, ...] = ()
    connect_ports: tuple[int, ...] = ()
    parent_pid: int = 0
    refusal_descriptor: int = 2

    def as_argument(self) -> str:
        """Return the one argument of this program. It holds no secret."""
        return json.dumps(asdict(self))


def main(arguments: list[str]) -> NoReturn:
    """Become the server that the argument describes, or say why not and exit with 78."""
    raw = json.loads(arguments[0])
    confinement = Confinement(**raw)
    os.set_inheritable(confinement.refusal_descriptor, False)  # noqa: FBT003 - the only signature
    try:
        _become(confinement)
    except (OSError, KeyError, ValueError) as error:
        os.write(confinement.refusal_descriptor, f"{error}".encode()[:1000])
        os._exit(EXIT_CONFIG)


def _become(confinement: Confinement) -> NoReturn:
    environment = dict(confinement.environment)
    for name, path in confinement.environment_files.items():
        environment[name] = _read_secret(Path(path))
    os.umask(0o077)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    if confinement.user is None:
        os.chdir(confinement.working_directory)
    else:
        _confine(confinement, confinement.user)
    # After the uid has changed, which clears it. A child does not outlive the service that
    # governs it, not even one that ignores the end of its input.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != confinement.parent_pid:
        raise OSError("the service that started this server is gone")
    try:
        os.execve(confinement.command[0], list(confinement.command), environment)  # noqa: S606 - the declared program, without a shell
    except OSError as error:
        raise OSError(f"{confinement.command[0]} cannot be run: {error.strerror}") from error


def _confine(confinement: Confinement, user: str) -> None:
    uid, gid = resolve_user(user)
    if uid in (0, os.getuid()):
        raise OSError(f"user {user} is no other user than Stage-3's or is root")
    present = [path for path in SYSTEM_PATHS if Path(path).exists()]
    rules = landlock.ruleset(
        [*present, *confinement.readable_paths],
        [*SYSTEM_DEVICES, *confinement.writable_paths],
        confinement.connect_ports,
    )
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError as error:
        raise OSError(
            f"Stage-3 may not become user {user}: it needs CAP_SETUID, CAP_SETGID and CAP_KILL"
        ) from error
    # Leaving root drops every capability; leaving another uid, to which one was lent, does not.
    _drop_capabilities()
    os.chdir(confinement.working_directory)
    landlock.restrict_self(rules)


def resolve_user(user: str) -> tuple[int, int]:
    """Return uid and gid of a user's name, or of a number, whose gid is the same number.

    Raises:
        OSError: there is no user of this name.

    """
    if user.isdecimal():
        return int(user), int(user)
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise OSError(f"there is no user {user}") from None
    return entry.pw_uid, entry.pw_gid


def _read_secret(path: Path) -> str:
    data = path.read_bytes()
    if len(data) > _MAX_SECRET_BYTES or b"\0" in data:
        raise OSError(f"{path} holds no value that a variable can have")
    return data.decode().rstrip("\n")


def _drop_capabilities() -> None:
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")


if __name__ == "__main__":
    main(sys.argv[1:])
