"""End the service when an effect's outcome could not be recorded: the log would go on without it.

Deliberately absent: stopping the records of other plans. The store has not failed, so what they
began is recorded for as long as the process has left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from servicekit.store.errors import StorePoisoned

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from servicekit.store.errors import StoreError


class Seal:
    """Be called with the defect, once or more, from any thread. `closed` stays true from then on.

    `end` asks the process to end with STORE_FAILED; without it the service stays, and starts
    nothing.
    """

    def __init__(self, end: Callable[[StoreError], None] | None, log: FilteringBoundLogger) -> None:
        self.closed = False
        self._end = end
        self._log = log

    def __call__(self, error: Exception) -> None:
        """Close, and ask for the end. The defect's text may quote parameters and is not logged."""
        self.closed = True
        self._log.critical("an outcome could not be recorded", error_type=type(error).__name__)
        if self._end is not None:
            self._end(
                StorePoisoned(
                    "an effect's outcome could not be recorded",
                    advice="Start the service again: it closes the step as in doubt.",
                )
            )
