"""The pair of services that the benchmark calls, and what a client must be told about them.

Both are started as anybody starts them, by `examples.local_pair`. Deliberately absent: a setting
that a deployment would not have. What is measured is what is installed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from examples.local_pair import LocalPair, PairFailed

STAGE4_NAME: Final = "stage4.dev.test"
USER: Final = "operations"
TOKEN_LIFETIME_S: Final = 1800
"""The longest life that Stage-3's default settings give a token, and so the longest run."""


class NoPairError(Exception):
    """Nothing here can start the services."""


@dataclass(frozen=True, slots=True)
class RunningPair:
    """Both services, running, with a token that any number of benchmark plans may use."""

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


@contextmanager
def running_pair(directory: Path) -> Iterator[RunningPair]:
    """Start `stage3 serve` and `stage4 serve`, each with a new store below `directory`.

    Raises:
        NoPairError: they cannot be started; the text says why.
    """
    try:
        pair = LocalPair(directory)
        pair.make()
        pair.start()
    except PairFailed as failed:
        raise NoPairError(str(failed)) from failed
    with pair:
        if pair.stage3_process is None or pair.stage4_process is None:
            raise NoPairError("the services ended as soon as they had started")
        yield RunningPair(
            stage4_address=pair.stage4_addresses["clients"],
            stage4_server_name=STAGE4_NAME,
            authority_file=pair.certificates / "ca.crt",
            client_certificate_file=pair.certificates / "demo.crt",
            client_key_file=pair.certificates / "demo.key",
            user_id=USER,
            token_hash=_issue(pair),
            stage3_pid=pair.stage3_process.pid,
            stage4_pid=pair.stage4_process.pid,
            stage3_store=pair.stage3_store,
            stage4_store=pair.stage4_store,
        )


def _issue(pair: LocalPair) -> str:
    """Issue the token of the run: one method, one client, no limit on how often."""
    file = pair.directory / "bench.token"
    pair.run(
        "stage3",
        *("token", "issue", "--user", USER, "--client", "demo", "--allow", "text:sha256"),
        *("--lifetime", str(TOKEN_LIFETIME_S), "--output", file),
    )
    return file.read_text(encoding="utf-8").strip()
