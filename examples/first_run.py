"""The first five minutes: `run`, `up` and `down`, for the Makefile.

It prints each command before it runs it, so that what it shows is what a person can type. It uses
the standard library and the two command lines, and nothing else of this project.
"""

import argparse
import fcntl
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path

from examples.local_pair import LocalPair, PairFailed, holder_of

ROOT = Path(__file__).resolve().parents[1]
PLAN = Path("examples/plans/first.json")
DOMAINS = Path("examples/domains.toml")
HOME = Path(".stagegate")
STOP_TIMEOUT_S = 30.0
# Variables of settings; those of the command line itself name files and are used.
_SETTINGS = ("STAGE3_LISTEN", "STAGE4_LISTEN", "STAGE4_STAGE3")

# One event for admission and five for each of three steps; received, started, completed.
STAGE3_EVENTS = 16
STAGE4_EVENTS = 3


def step(title: str) -> None:
    """Say what comes next."""
    print(f"\n{title}")


def tell(command: str) -> None:
    """Show a command as it can be typed."""
    print(f"  $ {command}", flush=True)


def show(text: str) -> None:
    """Show what a command printed."""
    print("\n".join(f"    {line.rstrip()}" for line in text.rstrip().splitlines()))


def run(home: Path) -> None:
    """Do all of it once, in a directory of its own, and leave nothing running."""
    home.mkdir(mode=0o700, exist_ok=True)
    directory = home / "run"
    with (home / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PairFailed("another `make run` is under way; wait until it has ended") from None
        remove_last_run(directory)
        with LocalPair(directory, domains_file=DOMAINS, tell=tell) as pair:
            first_run(pair)


def remove_last_run(directory: Path) -> None:
    """Remove what the last run left, unless something still uses it."""
    pair = LocalPair(directory)
    for store in (pair.stage3_store, pair.stage4_store):
        if (pid := holder_of(store)) is not None:
            raise PairFailed(
                f"process {pid}, left over from an earlier run, still has {store}; "
                f"end it with `kill {pid}` and run again"
            )
    if directory.exists():
        shutil.rmtree(directory)


def first_run(pair: LocalPair) -> None:
    """Tell the story of one plan, from certificates to the verified log."""
    print(f"Everything is made in {pair.directory} and can be removed with it.")

    step("Certificates: a development authority, both services, an operator, a client")
    pair.make_certificates()

    step("Stage-3, the authority: tokens, the audit log, the domains")
    pair.make_stage3()
    pair.start_stage3()
    show(f"ready at {pair.stage3_addresses['plans']}, for Stage-4 alone")

    step("Stage-4, the front desk: it validates plans and passes them on")
    pair.make_stage4()
    pair.start_stage4()
    show(f"ready at {pair.stage4_addresses['clients']}, for clients")

    step("Who is calling from here on")
    tell(f"export STAGE3_PROFILE={pair.operator_profile} STAGE4_PROFILE={pair.demo_profile}")

    step("The operator issues a token: three methods, for one client, for 15 minutes")
    token_file = pair.directory / "demo.token"
    pair.run("stage3", *issue_arguments(token_file))

    step("The client runs a plan of three steps over two domains")
    show(pair.run("stage4", "plan", "run", PLAN, "--token-file", token_file))
    plans = json.loads(pair.attempt("stage4", "plan", "list", "--json").stdout)["plans"]
    plan_id = plans[0]["plan_id"]

    step("What Stage-3 recorded about it, each entry on the disk before what it announces")
    listed = pair.run("stage3", "audit", "list", "--plan", plan_id)
    show(listed)
    expect_events(listed, STAGE3_EVENTS, "Stage-3")

    step("What Stage-4 recorded about it, in a log of its own")
    listed = pair.run("stage4", "audit", "list", "--plan", plan_id)
    show(listed)
    expect_events(listed, STAGE4_EVENTS, "Stage-4")

    step("Every hash of the log, computed anew from the file")
    show(pair.run("stage3", "audit", "verify", "--config", pair.stage3_config))

    codes = pair.stop()
    if any(codes.values()):
        raise PairFailed(f"a service did not end cleanly: {codes}; see {pair.log_of('stage3')}")
    step("Both services drained and ended. `make up` starts a pair to play with.")


def issue_arguments(token_file: Path) -> list[str]:
    """Return the words that issue the token of the first plan."""
    return [
        *("token", "issue", "--user", "operations", "--client", "demo"),
        *("--allow", "text:upper", "--allow", "notebook:append_note,list_notes"),
        *("--output", str(token_file)),
    ]


def expect_events(listed: str, expected: int, service: str) -> None:
    """Hold the number of events that a command counted against the contract's."""
    if not listed.rstrip().splitlines()[-1].startswith(f"{expected} events"):
        raise PairFailed(f"{service} should have recorded {expected} events about the plan")


def up(home: Path, *, free_ports: bool = False) -> None:
    """Start a pair at the default ports and leave it running; its state stays between starts."""
    pair = LocalPair(home / "up", free_ports=free_ports, domains_file=DOMAINS, tell=tell)
    how_to_stop = "make down"
    if home != HOME:
        how_to_stop = f"python examples/first_run.py down --home {home}"
    for name, pid in pids(pair).items():
        if pid is not None:
            raise PairFailed(f"{name} runs already, as process {pid}; `{how_to_stop}` stops it")
    if unused := sorted(name for name in os.environ if name.startswith(_SETTINGS)):
        print(f"not used here: {', '.join(unused)}; the settings are in {pair.directory}/*.toml")
    home.mkdir(mode=0o700, exist_ok=True)
    made = [path.exists() for path in (pair.stage3_store, pair.stage4_store)]
    if not any(made) and not pair.directory.exists():
        step("Certificates, settings and stores, made once")
        pair.make()
    elif not all(made):
        raise PairFailed(f"{pair.directory} is incomplete; remove it and try again")
    step("Both services")
    try:
        pair.start()
        say_what_to_try(pair, how_to_stop)
    except BaseException as failed:
        pair.stop()
        if isinstance(failed, PairFailed) and "PORT_UNAVAILABLE" in str(failed):
            raise PairFailed(
                f"{failed}\n  or: `make up FREE_PORTS=1` lets the system choose all ports"
            ) from None
        raise
    for process in (pair.stage3_process, pair.stage4_process):
        if process is not None:
            # It runs on: not waiting for it is the purpose.
            process.returncode = 0


def say_what_to_try(pair: LocalPair, how_to_stop: str) -> None:
    """Print commands that can be typed now."""
    token_file = pair.directory / "demo.token"
    number = 1
    while token_file.exists():
        number += 1
        token_file = pair.directory / f"demo-{number}.token"
    step(f"They run until `{how_to_stop}`. To try next:")
    print(
        f"  export PATH=$PWD/.venv/bin:$PATH STAGE3_PROFILE={pair.operator_profile.absolute()} \\"
    )
    print(f"    STAGE4_PROFILE={pair.demo_profile.absolute()}")
    print(f"  stage3 {' '.join(issue_arguments(token_file))}")
    print(f"  stage4 plan run {PLAN} --token-file {token_file}")
    print("  stage3 audit list")
    print("  stage3 token list", flush=True)


def down(home: Path) -> None:
    """Stop the pair that `up` left running: SIGTERM, Stage-4 first, and wait."""
    pair = LocalPair(home / "up", tell=tell)
    running = {name: pid for name, pid in pids(pair).items() if pid is not None}
    if not running:
        print("nothing is running")
    for name in ("stage4", "stage3"):
        if name in running:
            end(name, running[name])


def end(name: str, pid: int) -> None:
    """Ask one process to end, and wait until it has."""
    tell(f"kill {pid}    # {name}")
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], STOP_TIMEOUT_S)[0]:
            raise PairFailed(f"{name} (process {pid}) did not end in {STOP_TIMEOUT_S:g} s")
    finally:
        os.close(descriptor)


def pids(pair: LocalPair) -> dict[str, int | None]:
    """Return which process runs each service: by the lock on its store, else by its command."""
    return {
        "stage4": holder_of(pair.stage4_store) or process_serving(pair.stage4_config),
        "stage3": holder_of(pair.stage3_store) or process_serving(pair.stage3_config),
    }


def process_serving(config: Path) -> int | None:
    """Return the process that serves with these settings, though its store may be removed."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().split(b"\0")
        except OSError:
            # It ended while this looked, or is somebody else's.
            continue
        if words[-5:-1] == [b"serve", b"--config", os.fsencode(config.absolute()), b"--json"]:
            return int(command.parent.name)
    return None


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="The first five minutes of Stagegate.")
    parser.add_argument("command", choices=("run", "up", "down"))
    parser.add_argument("--home", type=Path, default=HOME, help="where all is made")
    parser.add_argument("--free-ports", action="store_true", help="up: the system chooses ports")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    try:
        match arguments.command:
            case "run":
                run(arguments.home)
            case "up":
                up(arguments.home, free_ports=arguments.free_ports)
            case _:
                down(arguments.home)
    except PairFailed as failed:
        print(f"\nfailed: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more, so nothing more is said, at the interpreter's exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"\nfailed: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
