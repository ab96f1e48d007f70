"""A composed pair under test: started, looked into, hurt and ended.

What hurts goes in from the host's side, as it would in a bad hour: a signal to the process that the
container is, an interface that goes down, a cgroup that is frozen. `docker kill` would tell the
engine that somebody wanted the container gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compose.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
TRUST_DOMAIN = "dev.test"
HEALTHY_S = 60.0
KNOCK = Path(__file__).with_name("knock.py").read_text()
CALL = Path(__file__).with_name("call.py").read_text()
LINK = """
import fcntl, socket, struct, sys
address, up = sys.argv[1], sys.argv[2] == "up"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
    for _index, name in socket.if_nameindex():
        request = struct.pack("16s16x", name.encode())
        try:
            answer = fcntl.ioctl(asked, 0x8915, request)  # SIOCGIFADDR
        except OSError:
            continue
        if socket.inet_ntoa(answer[20:24]) == address:
            flags = struct.unpack("16xH", fcntl.ioctl(asked, 0x8913, request)[:18])[0]
            flags = flags | 1 if up else flags & ~1  # IFF_UP
            fcntl.ioctl(asked, 0x8914, struct.pack("16sH14x", name.encode(), flags))
            print(name)
"""


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = HEALTHY_S) -> float:
    """Wait for something to become true; return how many seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def free_port() -> int:
    """Return a port of this machine's loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Submission:
    """A plan on its way: the client's process, and what it will say."""

    process: subprocess.Popen[str]

    def outcome(self) -> dict[str, Any]:
        """Wait for the client; return its answer, or the error it tells."""
        said, complained = self.process.communicate(timeout=120)
        answer: dict[str, Any] = json.loads(said if self.process.returncode == 0 else complained)
        return answer


@dataclass(slots=True)
class Stack:
    """One composed project; `home` holds what its host-side clients need."""

    engine: Engine
    project: str
    files: Sequence[str]
    home: Path
    port: int

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what `docker compose` reads, beside the engine's address."""
        return {
            **self.engine.environment,
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": os.pathsep.join(str(ROOT / file) for file in self.files),
            "COMPOSE_PROGRESS": "quiet",
            "STAGE4_PORT": str(self.port),
            "TRIAL_CERTIFICATES": str(self.home / "certificates"),
        }

    def compose(self, *words: str, timeout_s: float = 180.0) -> str:
        """Run `docker compose` on this project and return what it printed."""
        return Engine(self.environment, started=False).run(
            *("docker", "compose", *words), timeout_s=timeout_s
        )

    def up(self) -> float:
        """Start everything and wait until it is healthy; return the seconds that took."""
        (self.home / "certificates").mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "120")
        return time.monotonic() - began

    def down(self) -> None:
        """End everything and forget it, volumes included."""
        self.compose("--profile", "ops", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    # Looking

    def container(self, service: str) -> str:
        """Return the identifier of a service's container, running or not."""
        return self.compose("ps", "--all", "--quiet", service).split()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        told = self.engine.run("docker", "inspect", self.container(service))
        document: dict[str, Any] = json.loads(told)[0]
        return document

    def health(self, service: str) -> str:
        """Return the health that the engine has measured: starting, healthy or unhealthy."""
        state: dict[str, Any] = self.inspect(service)["State"]
        return str(state.get("Health", {}).get("Status", "")) if state["Running"] else "ended"

    def addresses(self, service: str) -> dict[str, str]:
        """Return a service's address on each of its networks."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return {
            name.removeprefix(f"{self.project}_"): endpoint["IPAddress"]
            for name, endpoint in networks.items()
        }

    def execute(self, service: str, script: str, *arguments: str) -> str:
        """Run Python inside a running container and return what it printed."""
        return self.compose("exec", "-T", service, "python", "-c", script, *arguments)

    def knock(self, service: str, targets: Sequence[str]) -> dict[str, str]:
        """Try TCP addresses from inside a container; return what came of each."""
        answer: dict[str, str] = json.loads(self.execute(service, KNOCK, *targets))
        return answer

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect of the trial domain."""
        path = "/var/lib/stagegate/effects"
        script = f"import os; print(open({path!r}).read() if os.path.exists({path!r}) else '')"
        return self.execute("stage3", script).split()

    # Operating

    def operate(self, *words: str) -> dict[str, Any]:
        """Run `stage3 ...` the operator's way in and return its JSON answer."""
        answer: dict[str, Any] = json.loads(
            self.compose("run", "--rm", "-T", "ops", *words, "--json")
        )
        return answer

    def fetch(self, volume: str, to: Path) -> Path:
        """Copy what is in a volume of certificates to a directory of the host."""
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = f"{self.container('init-certificates')}:/volumes/{volume}/."
        self.engine.run("docker", "cp", source, to)
        return to

    def issue_token(self, *allowed: str) -> Path:
        """Issue a token to the client `demo`; return the file that holds it."""
        words = [word for each in allowed for word in ("--allow", each)]
        token = self.operate("token", "issue", "--user", "ada", "--client", "demo", *words)
        file = self.home / "token"
        file.write_text(f"{token['token_hash']}\n")
        file.chmod(0o600)
        return file

    def submit(
        self, steps: Sequence[Mapping[str, Any]], request_id: str, *, timeout_s: float = 40.0
    ) -> Submission:
        """Submit a plan through the published port; return at once."""
        plan = self.home / f"{request_id}.json"
        document = {
            "user_id": "ada",
            "token_hash": "REPLACE_WITH_TOKEN",
            "trigger_type": "manual",
            "steps": list(steps),
        }
        plan.write_text(json.dumps(document))
        command = [
            *(sys.executable, "-m", "stage4_service", "plan", "run", str(plan), "--json"),
            *("--token-file", str(self.home / "token"), "--request-id", request_id),
            *("--profile", str(self.home / "client" / "demo.toml")),
            *("--address", f"127.0.0.1:{self.port}", "--timeout", str(timeout_s)),
        ]
        return Submission(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def run_plan(self, steps: Sequence[Mapping[str, Any]], request_id: str) -> dict[str, Any]:
        """Submit a plan and wait for its outcome."""
        return self.submit(steps, request_id).outcome()

    # Hurting

    def kill(self, service: str) -> None:
        """End a container's process as the kernel would, without a word to the engine."""
        pid: int = self.inspect(service)["State"]["Pid"]
        assert pid > 1
        if os.geteuid() == 0 and Path(f"/proc/{pid}/root").exists():
            os.kill(pid, signal.SIGKILL)
            return
        # An engine in a machine of its own: its processes are reached from a container of its host.
        self.engine.run(
            *("docker", "run", "--rm", "--pid", "host", "--user", "0", "--network", "none"),
            *("--entrypoint", "python", "stagegate-stage4"),
            *("-c", f"import os; os.kill({pid}, 9)"),
        )

    @contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """Freeze a container for a while."""
        container = self.container(service)
        self.engine.run("docker", "pause", container)
        try:
            yield
        finally:
            self.engine.run("docker", "unpause", container)

    @contextmanager
    def cut_off(self, service: str, network: str) -> Iterator[None]:
        """Take a container's interface on one network down for a while."""
        address = self.addresses(service)[network]
        self._link(service, address, "down")
        try:
            yield
        finally:
            self._link(service, address, "up")

    def _link(self, service: str, address: str, state: str) -> None:
        changed = self.engine.run(
            *("docker", "run", "--rm", "--user", "0", "--cap-add", "NET_ADMIN"),
            *("--network", f"container:{self.container(service)}"),
            *("--entrypoint", "python", "stagegate-stage4", "-c", LINK, address, state),
        )
        assert changed.strip(), f"{service} has no interface with the address {address}"

    @contextmanager
    def joined(self, service: str, network: str) -> Iterator[None]:
        """Join a container to one more network for a while: the control that fails a boundary."""
        container = self.container(service)
        name = f"{self.project}_{network}"
        self.engine.run("docker", "network", "connect", name, container)
        try:
            yield
        finally:
            self.engine.run("docker", "network", "disconnect", name, container)
