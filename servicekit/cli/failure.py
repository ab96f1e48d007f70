"""How a command fails: a stable reason, a sentence, what to do next, and an exit code.

Deliberately absent: tracebacks of expected trouble, and guesses about unexpected trouble, which
stays an exception and ends as INTERNAL.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from servicekit.process import ExitCode

if TYPE_CHECKING:
    from servicekit.serving.client_errors import ClientError

# What a file system answers when it was asked for something it will not do: no defect of ours.
_FILE_TROUBLE: Final = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    }
)

JsonFacts: TypeAlias = Mapping[str, object]


class CommandFailed(Exception):
    """A command that did not do what was asked.

    `reason` is stable and in capitals, `message` one sentence for people, `advice` what to do
    next. `problems` are all things found wrong where there may be several; `facts` are further
    members of the JSON document of the error, in the order in which people read them.
    """

    def __init__(
        self,
        exit_code: ExitCode,
        reason: str,
        message: str,
        advice: str = "",
        *,
        problems: Sequence[str] = (),
        facts: JsonFacts | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.exit_code = exit_code
        self.reason = reason
        self.message = message
        self.advice = advice
        self.problems = tuple(problems)
        self.facts = dict(facts or {})


def describe_failure(error: Exception) -> CommandFailed | None:
    """Return what a refusal of the kit means for a command line; None for an unexpected error."""
    # Looked up only once something failed: a command that succeeds need not load all of them.
    from servicekit.certificates import CertificateRefused
    from servicekit.process import ProcessRefused
    from servicekit.serving.address import AddressRefused
    from servicekit.serving.server import ListenRefused, PortUnavailable
    from servicekit.serving.tls import CredentialRefused
    from servicekit.settings import SettingsRefused
    from servicekit.store.errors import StoreError

    match error:
        case CommandFailed():
            return error
        case SettingsRefused():
            return CommandFailed(
                ExitCode.CONFIG,
                "SETTINGS_REFUSED",
                "the settings cannot be used",
                "Correct what is named; --print-config shows the settings in force.",
                problems=error.problems,
            )
        case CredentialRefused():
            return CommandFailed(
                ExitCode.CONFIG,
                "CREDENTIAL_REFUSED",
                f"{error.path}: {error.description}",
                error.advice,
            )
        case CertificateRefused():
            return CommandFailed(ExitCode.REFUSED, "CERTIFICATE_REFUSED", str(error))
        case StoreError():
            return CommandFailed(
                ExitCode(error.exit_code),
                _screaming(type(error).__name__),
                str(error),
                error.advice,
            )
        case PortUnavailable():
            return CommandFailed(
                ExitCode.PORT_BUSY, "PORT_UNAVAILABLE", error.description, error.advice
            )
        case ListenRefused():
            return CommandFailed(ExitCode.CONFIG, "LISTEN_REFUSED", error.description, error.advice)
        case AddressRefused():
            return CommandFailed(
                ExitCode.CONFIG, "ADDRESS_REFUSED", str(error), "Correct the address."
            )
        case ProcessRefused():
            return CommandFailed(ExitCode.CONFIG, "PROCESS_REFUSED", str(error))
        case OSError() if error.errno in _FILE_TROUBLE and error.filename is not None:
            return CommandFailed(
                ExitCode.CONFIG,
                "FILE_REFUSED",
                f"{error.filename}: {error.strerror}",
                "Check the path, and what this user may do there.",
            )
        case _:
            return None


def refusal_of_service(error: ClientError, *, advice: str, facts: JsonFacts) -> CommandFailed:
    """Return what a service's own answer means: it was asked and said no."""
    problems = [f"{path}: {text}" if path else text for path, text in error.violations]
    return CommandFailed(
        ExitCode.REFUSED,
        error.reason,
        error.message,
        advice,
        problems=[problem for problem in problems if problem != error.message],
        facts=facts,
    )


def _screaming(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
