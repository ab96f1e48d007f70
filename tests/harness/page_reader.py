"""Pages whose every command is typed, in an empty directory, as a reader would."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND_S = 60
PORTS = tuple(
    f"127.0.0.1:{port}" for port in (7401, 7402, 7403, 7404, 7405, 7411, 7412, 9403, 9404)
)


class Reader:
    """Somebody who follows the page in an empty directory, on ports that nobody else uses.

    `variables` are set in the shell beside the usual ones.
    """

    def __init__(self, directory: Path, **variables: str) -> None:
        self._directory = directory
        with ExitStack() as held:
            free = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
            self._moved = {
                port: f"127.0.0.1:{one.getsockname()[1]}"
                for port, one in zip(PORTS, free, strict=True)
            }
        # What the reader's own shell has set must not reach into the page.
        self._environment = {
            **{name: value for name, value in os.environ.items() if "STAGE" not in name},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}",
            "COLUMNS": "160",
            **variables,
        }
        self._serving: list[subprocess.Popen[str]] = []

    def _here(self, text: str) -> str:
        for written, moved in self._moved.items():
            text = text.replace(written, moved)
        return text

    def write(self, name: str, text: str) -> None:
        """Write a file that the page shows."""
        (self._directory / name).write_text(self._here(text))

    def type(self, commands: str) -> str:
        """Run the lines of a block, each of which must succeed; return what they said."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(commands)],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        # Profiles and settings are written with the usual ports.
        for path in self._directory.rglob("*.toml"):
            path.write_text(self._here(path.read_text()))
        return done.stdout

    def serve(self, command: str) -> None:
        """Start a service, and return once it says that it answers."""
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self._here(command)}"],
                cwd=self._directory,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._serving.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert " is ready: " in said, (self._directory / "log").read_text()

    def stop_last(self) -> None:
        """Ask the service that was started last to end."""
        process = self._serving.pop()
        process.send_signal(signal.SIGTERM)
        process.wait(COMMAND_S)
        assert process.stdout is not None
        process.stdout.close()

    def stop(self) -> list[int]:
        """Ask every service to end, the last one first; return their exit codes."""
        codes = []
        for process in reversed(self._serving):
            process.send_signal(signal.SIGTERM)
            codes.append(process.wait(COMMAND_S))
            assert process.stdout is not None
            process.stdout.close()
        self._serving.clear()
        return codes


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return the page's blocks: the file named in the line before, the language, the text."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"([^\n]*)\n\n```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        ((re.findall(r"`([\w.]+)`:$", match[1]) or [""])[0], match[2], match[3]) for match in found
    ]
