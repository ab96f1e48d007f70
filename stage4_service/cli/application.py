"""The tree of commands of `stage4`.

Deliberately absent: work. Each command lives in the module of its subject and imports what it needs
when it is run, so that help and completion answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from servicekit.cli.entry import run_command_line
from stage4_service.cli import audit, keys, plans, serve, state

if TYPE_CHECKING:
    from servicekit.cli.failure import CommandFailed

PROGRAM: Final = "stage4"
EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 asked and refused, or the plan did not complete, 2 usage, 69 service "
    "not reached, 70 defect, 71 port busy, 74 store failed, 75 store locked, 78 settings or "
    "certificates wrong."
)

app = typer.Typer(
    name=PROGRAM,
    help="Run plans through Stage-4, the front desk, and serve it.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(plans.app, name="plan")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="key")
app.command("init")(state.init)
app.command("serve")(serve.serve)


def main() -> int:
    """Run the command of this process; return its exit code."""
    return run_command_line(PROGRAM, app, _translate)


def _translate(_error: Exception) -> CommandFailed | None:
    return None
