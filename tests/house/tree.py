"""What the house rules are about: the files of this tree and the modules among them.

Deliberately absent: rules. Each test file holds its own.
"""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("servicekit", "stage3_service", "stage4_service", "stagegate_domain")
STUBS = ROOT / "protos" / "gen"


@cache
def source_files() -> tuple[Path, ...]:
    """Every file that is committed or would be: what git tracks, and what it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


@cache
def modules(*folders: str) -> tuple[Path, ...]:
    """Return the hand-written Python modules below the given top-level folders."""
    return tuple(
        path
        for path in source_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders
    )


def shown(path: Path) -> str:
    """Return the path as a reader of this repository would write it."""
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    """Return the module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
