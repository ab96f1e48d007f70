"""Make a deployment's certificates once, and give each file to the one user who may read it.

Run as root, with the capability to change owners and nothing else, in a container that ends. Each
directory below DIRECTORY is a volume of its own: `authority` (the root of all trust, mounted
nowhere else), `stage3`, `stage4`, `ledger`, `operator` and `client`. A service sees its own alone.

Deliberately absent: renewal and a choice of algorithms. A deployment that matters brings files of
its own authority, in the same places.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("stage3")
COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Volume:
    """The files that one user gets; `made` is a directory for what that user's own init notes."""

    name: str
    user: int
    files: tuple[str, ...]
    made: bool = False


def volumes(stage3: int, stage4: int, ledger: int, people: int) -> tuple[Volume, ...]:
    """Return who gets what."""
    stage3_files = ("ca.crt", "stage3.crt", "stage3.key", "stage3-caller.crt", "stage3-caller.key")
    return (
        Volume("stage3", stage3, stage3_files, made=True),
        Volume(
            "stage4",
            stage4,
            ("ca.crt", "stage4.crt", "stage4.key", "stage4-caller.crt", "stage4-caller.key"),
            made=True,
        ),
        Volume("ledger", ledger, ("ca.crt", "ledger.crt", "ledger.key")),
        Volume("operator", people, ("ca.crt", "operator.crt", "operator.key", "operator.toml")),
        Volume("client", people, ("ca.crt", "demo.crt", "demo.key", "demo.toml")),
    )


def make(directory: Path, trust_domain: str, wanted: tuple[Volume, ...]) -> None:
    """Issue everything into the authority's volume, then copy to each volume what is its own."""
    authority = directory / "authority"
    issued = authority / "issued"
    if not (authority / COMPLETE).exists():
        if issued.exists():
            # Half of a run that was killed: nobody has seen any of it.
            for path in issued.iterdir():
                path.unlink()
            issued.rmdir()
        subprocess.run(
            [PROGRAM, "certs", "init", issued, "--trust-domain", trust_domain],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        dns = f"ledger.{trust_domain}"
        subprocess.run(
            [PROGRAM, "certs", "server", issued, "ledger", "--dns", dns],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        _point_profile(issued / "demo.toml", "stage4:7401")
        (authority / COMPLETE).touch()
    for volume in wanted:
        _hand_over(issued, directory / volume.name, volume)


def _point_profile(profile: Path, address: str) -> None:
    text = profile.read_text(encoding="utf-8")
    profile.write_text(re.sub(r"(?m)^address = .*$", f'address = "{address}"', text))


def _hand_over(issued: Path, target: Path, volume: Volume) -> None:
    made = target / "made"
    if volume.made and not made.exists():
        made.mkdir(mode=0o700)
        os.chown(made, volume.user, volume.user)
    for name in volume.files:
        if (target / name).exists():
            continue
        # Complete and owned before it has its name: a reader finds all of it or nothing.
        partial = target / f".{name}"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "wb") as file:
            file.write((issued / name).read_bytes())
            os.fchown(file.fileno(), volume.user, volume.user)
            os.fsync(file.fileno())
        partial.rename(target / name)


_USERS = ("STAGE3_USER", "STAGE4_USER", "LEDGER_USER", "PEOPLE")

if __name__ == "__main__":
    make(
        Path(sys.argv[1]),
        os.environ["TRUST_DOMAIN"],
        volumes(*(int(os.environ[name]) for name in _USERS)),
    )
