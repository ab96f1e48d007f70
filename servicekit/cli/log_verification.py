"""What `audit verify` of every service does: judge the log in a store file, without the service.

A verdict is one about a log. A file that is no store, another service's, or unreadable gets none:
it is an error with an exit code of its own, so that nobody is woken for a mistyped path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from servicekit.cli.failure import CommandFailed
from servicekit.cli.output import emit, print_facts
from servicekit.process import ExitCode

if TYPE_CHECKING:
    from servicekit.store.ledger import TreeHead

_HEAD: Final = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")

StoreFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FILE",
        readable=False,  # a file that cannot be read is told as any other trouble
        help="The store file, instead of --config.",
    ),
]
KeptHead: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="SIZE:ROOT",
        help="A head noted earlier, as this command prints it: the log must contain it.",
    ),
]


def verify_store_file(
    program: str,
    store: Path | None,
    configured: Callable[[], Path | None],
    *,
    kept_head: str | None,
    as_json: bool,
    state_problem: Callable[[Path], str | None] | None = None,
    vouching: Callable[[], TreeHead | None] | None = None,
) -> None:
    """Print the verdict on the log in `store`, else in the file that `configured` names.

    `program` is also the name of the schema that the store must have. `state_problem` is asked
    about a store whose log is good, and returns what contradicts the log, or None. `vouching`
    returns the head of the checkpoint kept outside the configured store, if it has one; it is held
    against the log unless a file or a head is named instead.

    Raises:
        CommandFailed: USAGE, no store is named or the head is not one.
        StoreError: there is no verdict.
        typer.Exit: with REFUSED, the log is bad.
    """
    from servicekit.store.leaf_check import check_leaf
    from servicekit.store.ledger import TreeHead, verify_log

    path = store if store is not None else configured()
    if path is None:
        raise CommandFailed(
            ExitCode.USAGE,
            "USAGE",
            "which log?",
            "Name the settings with --config FILE, or the store file with --store FILE.",
        )
    at_least = None
    if kept_head is not None:
        match = _HEAD.fullmatch(kept_head)
        if match is None:
            raise CommandFailed(
                ExitCode.USAGE,
                "USAGE",
                f"--head {kept_head!r} is not SIZE:ROOT",
                f"Copy the head that `{program} audit verify` printed.",
            )
        at_least = TreeHead(int(match[1]), bytes.fromhex(match[2]))
    elif store is None and vouching is not None:
        at_least = vouching()
    verdict = verify_log(path, check=check_leaf, at_least=at_least, schema_name=program)
    problem = verdict.problem
    if problem is None and state_problem is not None:
        problem = state_problem(path)
    root = verdict.root.hex()
    if as_json:
        emit(
            {
                "verified": problem is None,
                "store": str(path),
                "size": verdict.size,
                "root": root,
                "problem": problem,
                "first_bad_seq": verdict.first_bad_seq,
            }
        )
    else:
        print_facts(
            {
                "verified": problem is None,
                "store": str(path),
                "problem": problem,
                "first_bad_seq": verdict.first_bad_seq,
                "head": f"{verdict.size}:{root}",
            }
        )
    if problem is not None:
        raise typer.Exit(int(ExitCode.REFUSED))
