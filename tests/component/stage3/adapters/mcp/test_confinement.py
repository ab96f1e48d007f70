"""A stdio server under its confinement: what a real child can reach, and what it can without it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stage3_service.adapters.mcp.confined import EXIT_CONFIG, Confinement
from stage3_service.adapters.mcp.landlock import MIN_ABI, supported_abi
from stage3_service.adapters.mcp.opening import McpOpener
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.port import DomainUnreachable, Output
from tests.fakes.accepted_definitions import AcceptedByTest
from tests.harness.mcp import (
    NODE_SERVERS,
    TRIAL_SERVER,
    children,
    invoke,
    mcp_declaration,
    mcp_domain,
    mcp_table,
    open_directory,
)

SYSTEM_PYTHON = "/usr/bin/python3"
OTHER = "nobody"
# Any other uid than the tests' own, and no Landlock: what remains is what file modes allow.
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(SYSTEM_PYTHON).exists() or supported_abi() < MIN_ABI,
    reason="needs root, the system's Python, and Landlock version 4: the confinement is not shown",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any user may enter, with a copy of the server and a secret of everybody."""
    with open_directory() as directory:
        server = directory / "server.py"
        server.write_bytes(TRIAL_SERVER.read_bytes())
        server.chmod(0o644)
        (directory / "declared").mkdir()
        (directory / "declared").chmod(0o777)
        (directory / "declared" / "file").write_text("declared")
        (directory / "beside").write_text("every user may read this, and no rule allows it")
        yield directory


def confined_keys(place: Path, **keys: Any) -> dict[str, Any]:
    """Return the keys that run the trial server as another user."""
    return {
        "command": [SYSTEM_PYTHON, "-I", str(place / "server.py")],
        "working_directory": "/",
        "user": OTHER,
        "readable_paths": [str(place / "server.py"), str(place / "declared")],
        **keys,
    }


def unconfined_keys(place: Path) -> dict[str, Any]:
    """Return the keys that run it as the service itself."""
    command = [SYSTEM_PYTHON, "-I", str(place / "server.py")]
    return {"command": command, "working_directory": "/", "unsafe_stdio": True}


def reached(keys: dict[str, Any], *paths: Path, ports: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return what the child says of each path and port."""
    with mcp_domain(mcp_table({"reach": "reach"}, **keys)) as domain:
        answer = invoke(domain, "reach", paths=[str(path) for path in paths], ports=list(ports))
    assert isinstance(answer, Output), answer
    found: dict[str, Any] = json.loads(answer.json_bytes)["structured_content"]
    return found


@pytest.fixture
def private(tmp_path: Path) -> tuple[Path, ...]:
    """A store and keys as Stage-3 keeps them."""
    state = tmp_path / "stage3"
    state.mkdir(mode=0o700)
    files = (state / "stage3.sqlite3", tmp_path / "outcome.keys", tmp_path / "stage3-server.key")
    for file in files:
        file.write_text("secret")
        file.chmod(0o600)
    return files


def test_a_child_can_open_neither_the_store_nor_a_key(
    place: Path, private: tuple[Path, ...]
) -> None:
    """Control: the same program with `unsafe_stdio` opens all of them."""
    confined = reached(confined_keys(place), *private)
    unsafe = reached(unconfined_keys(place), *private)

    assert {confined[str(file)] for file in private} == {"PermissionError"}
    assert confined["uid"] != os.geteuid()
    assert {unsafe[str(file)] for file in private} == {"opened"}
    assert unsafe["uid"] == os.geteuid()


def test_a_child_reaches_declared_paths_alone(place: Path) -> None:
    """Not even what every user may read. Control: without rules it may."""
    beside, declared = place / "beside", place / "declared" / "file"
    passwords = Path("/etc/passwd")
    confined = reached(confined_keys(place), beside, declared, passwords)
    unsafe = reached(unconfined_keys(place), beside, declared, passwords)

    assert confined[str(declared)] == "opened"
    assert confined[str(beside)] == confined[str(passwords)] == "PermissionError"
    assert unsafe[str(beside)] == unsafe[str(passwords)] == "opened"


def test_a_child_connects_to_declared_ports_alone(place: Path) -> None:
    """A listener of this machine, Stage-3's own among them, is not reached unless it is named."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        closed = reached(confined_keys(place), ports=(port,))
        opened = reached(confined_keys(place, connect_ports=[port]), ports=(port,))

    assert closed[str(port)] == "PermissionError"
    assert opened[str(port)] == "connected"


def test_a_child_gets_the_environment_that_is_declared(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is inherited; a secret comes from its file, which the child itself cannot read."""
    monkeypatch.setenv("STAGE3_SECRET", "of the service")
    secret = tmp_path / "api-key"
    secret.write_text("opened-sesame\n")
    secret.chmod(0o600)
    keys = confined_keys(place, environment={"A": "1"}, environment_files={"API_KEY": str(secret)})
    with mcp_domain(mcp_table({"reach": "reach"}, **keys)) as domain:
        answer = invoke(domain, "reach", paths=[str(secret)])
        assert isinstance(answer, Output)
        found = json.loads(answer.json_bytes)["structured_content"]
        (pid,) = [pid for pid, command in children().items() if "server.py" in command]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        variables = Path(f"/proc/{pid}/environ").read_bytes()

    # The interpreter itself adds the locale.
    assert set(found["variables"]) - {"LC_CTYPE"} == {"A", "API_KEY"}
    assert found[str(secret)] == "PermissionError"
    assert b"opened-sesame" not in command
    assert b"API_KEY=opened-sesame\0" in variables


def test_a_child_has_no_capability_and_gains_none(place: Path) -> None:
    """Read from the kernel, of the real child."""
    with mcp_domain(mcp_table({"reach": "reach"}, **confined_keys(place))) as domain:
        assert isinstance(invoke(domain, "reach"), Output)
        (pid,) = [pid for pid, command in children().items() if "server.py" in command]
        status = Path(f"/proc/{pid}/status").read_text()
        limits = Path(f"/proc/{pid}/limits").read_text()
        groups = [line for line in status.splitlines() if line.startswith("Groups:")]
        open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))

    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{name}:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert groups == ["Groups:\t "]
    assert "Max core file size        0                    0" in limits
    assert open_files == 3


def test_what_may_be_written_may_not_be_run(place: Path) -> None:
    """A tool that downloads a program cannot start it from there."""
    program = place / "declared" / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    keys = confined_keys(place, writable_paths=[str(place / "declared")])
    keys |= {"command": [str(program)], "readable_paths": []}
    told: list[str] = []
    with mcp_domain(mcp_table({"reach": "reach"}, **keys), told=told) as domain:
        assert isinstance(invoke(domain, "reach"), DomainUnreachable)
    assert any("cannot be run: Permission denied" in sentence for sentence in told)


def test_a_real_server_works_inside_what_it_was_given(place: Path) -> None:
    """The filesystem server of Node writes into its folder, as its own user, and nowhere else."""
    node = Path("/usr/bin/node")
    if not node.exists():
        pytest.skip("Node is not where another user may run it")
    packages = place / "node_modules"
    shutil.copytree(NODE_SERVERS.parent, packages, symlinks=True)
    folder, program = place / "declared", packages / "@modelcontextprotocol"
    program = program / "server-filesystem" / "dist" / "index.js"
    keys: dict[str, Any] = {
        "command": [str(node), str(program), str(folder)],
        "working_directory": str(folder),
        "user": OTHER,
        "readable_paths": [str(packages)],
        "writable_paths": [str(folder)],
    }
    with mcp_domain(mcp_table({"write": "write_file"}, **keys)) as domain:
        answer = invoke(domain, "write", path=str(folder / "note"), content="hello")

    assert isinstance(answer, Output), answer
    assert (folder / "note").read_text() == "hello"
    assert (folder / "note").stat().st_uid == pwd.getpwnam(OTHER).pw_uid


class TestRefusals:
    """What cannot be confined as declared does not run."""

    def test_a_path_that_holds_what_is_stage3s_is_refused(
        self, place: Path, private: tuple[Path, ...]
    ) -> None:
        """Above, below, or the same; by either kind of path. Control: a path beside is opened."""
        opener = McpOpener(AcceptedByTest(), private, lambda _, __: None, lambda _: None)
        state = private[0].parent
        for key in ("readable_paths", "writable_paths"):
            for path in (state, state.parent, private[1], "/"):
                keys = confined_keys(place, **{key: [str(path)]})
                declaration = mcp_declaration(mcp_table({"echo": "echo"}, **keys))
                with pytest.raises(DeclarationsRefused, match="which is Stage-3's alone"):
                    opener(declaration)
        allowed = mcp_declaration(mcp_table({"echo": "echo"}, **confined_keys(place)))
        opener(allowed).close()

    @pytest.mark.parametrize(
        ("user", "why"), [("nosuchuser", "there is no user"), ("own", "Stage-3's own user")]
    )
    def test_a_user_that_is_none_or_stage3_itself_is_refused(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, user: str, why: str
    ) -> None:
        """Before anything is started."""
        if user == "own":
            monkeypatch.setattr(os, "geteuid", lambda: 65534)
            user = "65534"
        opener = McpOpener(AcceptedByTest(), (), lambda _, __: None, lambda _: None)
        keys = confined_keys(place, user=user)
        with pytest.raises(DeclarationsRefused, match=why):
            opener(mcp_declaration(mcp_table({"echo": "echo"}, **keys)))

    def test_a_service_that_may_not_change_its_uid_is_refused(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Told at the start, with what to do; not at the first call."""
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        opener = McpOpener(AcceptedByTest(), (), lambda _, __: None, lambda _: None)
        with pytest.raises(DeclarationsRefused, match="CAP_SETUID, CAP_SETGID and CAP_KILL"):
            opener(mcp_declaration(mcp_table({"echo": "echo"}, **confined_keys(place))))

    @pytest.mark.parametrize(
        "fault", ["no_such_path", "own_user", "no_secret", "no_directory", "unprivileged"]
    )
    def test_the_launcher_runs_nothing_that_it_cannot_confine(
        self, place: Path, tmp_path: Path, fault: str
    ) -> None:
        """Exit 78 and one sentence. Control: without the fault the program runs."""
        ran = place / "declared" / "ran"
        confinement = Confinement(
            command=("/bin/sh", "-c", f"echo ran > {ran}"),
            working_directory="/",
            user=OTHER,
            writable_paths=(str(place / "declared"),),
        )
        changes: dict[str, Any] = {
            "no_such_path": {"readable_paths": ("/no/such/path",)},
            "own_user": {"user": str(os.getuid() or "0")},
            "no_secret": {"environment_files": {"A": "/no/such/file"}},
            "no_directory": {"working_directory": "/no/such/directory"},
            "unprivileged": {},
        }
        faulty = replace(confinement, **changes[fault])
        as_user = ("/usr/bin/setpriv", "--reuid=4711", "--clear-groups")

        code, told = launched(faulty, *(as_user if fault == "unprivileged" else ()))
        assert (code, bool(told)) == (EXIT_CONFIG, True)
        assert not ran.exists()
        assert launched(confinement) == (0, "")
        assert ran.read_text() == "ran\n"


def launched(confinement: Confinement, *before: str) -> tuple[int, str]:
    """Run the launcher and return its exit code and what it wrote of a refusal."""
    python = SYSTEM_PYTHON if before else sys.executable
    root = Path(__file__).resolve().parents[5]
    refusal, told = os.pipe()
    given = replace(confinement, parent_pid=os.getpid(), refusal_descriptor=told)
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from stage3_service.adapters.mcp.confined import main; main(sys.argv[1:])"
    )
    if before:
        program = _readable_copy(root)
    try:
        with subprocess.Popen(
            [*before, python, "-I", "-c", program, given.as_argument()],
            env={},
            pass_fds=(told,),
            start_new_session=True,
        ) as process:
            code = process.wait()
    finally:
        os.close(told)
    with os.fdopen(refusal) as pipe:
        return code, pipe.read()


def _readable_copy(root: Path) -> str:
    """Return a program that holds the launcher's own text: the tree is not open to every user."""
    folder = root / "stage3_service" / "adapters" / "mcp"
    landlock = (folder / "landlock.py").read_text()
    launcher = (
        (folder / "confined.py")
        .read_text()
        .replace("from stage3_service.adapters.mcp import landlock", "")
    )
    return (
        "import sys, types\n"
        "landlock = types.ModuleType('landlock'); sys.modules['landlock'] = landlock\n"
        f"exec({landlock!r}, landlock.__dict__)\n"
        f"module = types.ModuleType('confined'); sys.modules['confined'] = module\n"
        f"module.landlock = landlock\nexec({launcher!r}, module.__dict__)\n"
        "module.main(sys.argv[1:])"
    )
