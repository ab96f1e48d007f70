"""The pair of services that the benchmark calls, started by somebody else.

Starting services is the business of examples/first_run.py, which does it for everybody; this file
only says what the benchmark must be told about them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Protocol


class NoPairError(Exception):
    """Nothing here can start the services."""


class RunningPair(Protocol):
    """Both services, running, with a token that any number of benchmark plans may use.

    The token must cover `sha256` of the builtin `text` domain, the trigger `manual` and the caller
    below, without a limit on invocations, frequency or bytes, for the length of the run.
    """

    stage4_address: str
    stage4_server_name: str
    authority_file: Path
    client_certificate_file: Path
    client_key_file: Path
    user_id: str
    token_hash: str
    stage3_pid: int
    stage4_pid: int
    stage3_store: Path
    stage4_store: Path


def running_pair(directory: Path) -> AbstractContextManager[RunningPair]:
    """Start `stage3 serve` and `stage4 serve`, each with a new store below `directory`.

    Raises:
        NoPairError: examples.first_run has no `running_pair`.
    """
    try:
        start: Callable[[Path], AbstractContextManager[RunningPair]]
        start = import_module("examples.first_run").running_pair
    except (ImportError, AttributeError) as error:
        raise NoPairError(f"the services cannot be started: {error}") from error
    return start(directory)
