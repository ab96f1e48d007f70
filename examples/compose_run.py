"""The first plan through the published port of the composed pair, for `make compose-run`.

The client's certificate is copied out of its volume; the token is issued in a container that shares
Stage-3's loopback, the operator's way in. It uses the standard library, `docker compose` and the
two command lines, and nothing else of this project.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(".stagegate/compose")
PLAN = Path("examples/plans/first.json")
PORT = os.environ.get("STAGE4_PORT", "7401")
STAGE3_EVENTS = 16


class RunFailed(Exception):
    """A command that did not do what the story says."""


def run(*words: str | Path, show: bool = True) -> str:
    """Show a command, run it, and return what it printed."""
    command = [str(word) for word in words]
    print(f"  $ {shlex.join([Path(command[0]).name, *command[1:]])}", flush=True)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise RunFailed(f"it ended with {done.returncode}:\n{done.stderr.rstrip()}")
    if show:
        print("\n".join(f"    {line.rstrip()}" for line in done.stdout.rstrip().splitlines()))
    return done.stdout


def fetch_client(home: Path) -> Path:
    """Copy the client's certificate out of its volume; return the profile beside it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    container = run("docker", "compose", "ps", "-aq", "init-certificates", show=False).strip()
    if not container:
        raise RunFailed("the pair is not there; `make compose-up` starts it")
    run("docker", "cp", f"{container}:/volumes/client/.", home, show=False)
    for path in home.glob("demo.*"):
        path.chmod(0o600)
    return home / "demo.toml"


def issue_token(home: Path) -> Path:
    """Issue the token of the first plan; return the private file that holds it."""
    answer = run(
        *("docker", "compose", "run", "--rm", "-T", "ops"),
        *("token", "issue", "--user", "operations", "--client", "demo"),
        *("--allow", "text:upper", "--allow", "notebook:append_note,list_notes", "--json"),
        show=False,
    )
    file = home / "demo.token"
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(json.loads(answer)["token_hash"] + "\n")
    return file


def accept_ledger() -> None:
    """Accept what the ledger shows of itself; until then none of its steps starts."""
    run("docker", "compose", "run", "--rm", "-T", "ops", "domain", "accept", "ledger", "--first")


def main() -> int:
    """Tell the story; return the exit code."""
    parser = argparse.ArgumentParser(description="The first plan through the composed pair.")
    parser.add_argument("--home", type=Path, default=HOME, help="where the client's files go")
    home: Path = parser.parse_args().home
    os.chdir(ROOT)
    began = time.monotonic()
    stage4 = Path(sys.executable).with_name("stage4")
    try:
        print("The client's certificate, out of its volume")
        profile = fetch_client(home)
        print("\nThe domain that is a service elsewhere, accepted as what it shows")
        accept_ledger()
        print("\nA token, issued over Stage-3's loopback")
        token = issue_token(home)
        print(f"\nThe plan, through the published port 127.0.0.1:{PORT}")
        client = ("--profile", profile, "--address", f"127.0.0.1:{PORT}")
        answer = run(stage4, "plan", "run", PLAN, "--token-file", token, *client, "--json")
        plan_id = json.loads(answer)["plan_id"]
        print("\nWhat Stage-3 recorded about it")
        words = ("run", "--rm", "-T", "ops", "audit", "list", "--plan", plan_id)
        listed = run("docker", "compose", *words)
        if not listed.rstrip().splitlines()[-1].startswith(f"{STAGE3_EVENTS} events"):
            raise RunFailed(f"{STAGE3_EVENTS} events are expected")
    except RunFailed as failed:
        print(f"\nfailed: {failed}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - began:.1f} s. `make compose-down` ends the pair.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
