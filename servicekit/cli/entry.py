"""The way into a command line, and the one way out of it with an exit code.

Deliberately absent: retries, and any output of its own for a command that succeeded.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from typer import Context
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

if TYPE_CHECKING:
    import typer

    from servicekit.cli.failure import CommandFailed


def run_command_line(
    program: str,
    app: typer.Typer,
    translate: Callable[[Exception], CommandFailed | None],
) -> int:
    """Run the command that the process was asked for; return its exit code.

    `translate` is asked first what a service's own exceptions mean, then the kit. What neither
    knows is a defect: its trace goes to standard error, with every secret taken out.
    """
    # gRPC's core writes lines of its own to standard error, between JSON documents. Whoever wants
    # them sets the variable.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        command = get_command(app)
        if isinstance(command, TyperCommand | TyperGroup):
            _show_flags_without_values(command)
        command(prog_name=program)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # noqa: BLE001 - the last line before the interpreter's own
        return _fail(program, error, translate)
    return 0


def _show_flags_without_values(command: TyperCommand | TyperGroup) -> None:
    """Let no help show a place for a value behind an option that takes none."""
    options = [*command.params, command.get_help_option(Context(command))]
    for option in options:
        if isinstance(option, TyperOption) and option.is_bool_flag:
            option.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _show_flags_without_values(inner)


def _fail(
    program: str, error: Exception, translate: Callable[[Exception], CommandFailed | None]
) -> int:
    from servicekit.cli.failure import CommandFailed, describe_failure
    from servicekit.cli.output import print_failure
    from servicekit.log import redact_text
    from servicekit.process import ExitCode

    failure = translate(error) or describe_failure(error)
    if failure is None:
        sys.stderr.write(redact_text("".join(traceback.format_exception(error))))
        failure = CommandFailed(
            ExitCode.INTERNAL,
            "INTERNAL",
            f"a defect of this program ({type(error).__name__})",
            "Report it with the trace above.",
        )
    print_failure(program, failure, as_json="--json" in sys.argv[1:])
    return int(failure.exit_code)
