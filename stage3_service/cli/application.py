"""The tree of commands of `stage3`.

Deliberately absent: work. Each command lives in the module of its subject and imports what it needs
when it is run, so that help and completion answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from servicekit.cli.entry import run_command_line
from stage3_service.cli import audit, certificates, domains, keys, operate, serve, state, tokens

if TYPE_CHECKING:
    from servicekit.cli.failure import CommandFailed

PROGRAM: Final = "stage3"
EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 asked and refused, 2 usage, 69 service not reached, 70 defect, "
    "71 port busy, 74 store failed, 75 store locked, 78 settings or certificates wrong."
)

app = typer.Typer(
    name=PROGRAM,
    help="Operate Stage-3, the authority: tokens, the audit log, domains, the service itself.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(certificates.app, name="certs")
app.command("init")(state.init)
app.command("serve")(serve.serve)
app.command("status")(operate.status)
app.command("halt")(operate.halt)
app.command("resume")(operate.resume)
app.add_typer(tokens.app, name="token")
app.add_typer(audit.app, name="audit")
app.add_typer(domains.app, name="domain")
app.add_typer(keys.app, name="key")


def main() -> int:
    """Run the command of this process; return its exit code."""
    return run_command_line(PROGRAM, app, _translate)


def _translate(error: Exception) -> CommandFailed | None:
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage3_service.adapters.builtin.notebook_file import NotebookRefused
    from stage3_service.domains.declarations_reading import DeclarationsRefused

    match error:
        case DeclarationsRefused():
            return CommandFailed(
                ExitCode.CONFIG,
                "DECLARATIONS_REFUSED",
                "the domains file cannot be used",
                "Correct what is named; `stage3 domain check FILE` asks again without serving.",
                problems=error.problems,
            )
        case NotebookRefused():
            return CommandFailed(
                ExitCode.STORE_FAILED,
                "NOTEBOOK_REFUSED",
                f"{error.path}: {error.description}",
                f"{error.advice[0].upper()}{error.advice[1:]}.",
            )
        case _:
            return None
