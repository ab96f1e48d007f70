"""What operators have accepted, as a test decides it."""

from __future__ import annotations

from stage3_service.domains.definition import Definition


class AcceptedByTest:
    """Accept whatever is shown, until `only` says what alone is accepted; remember what was."""

    def __init__(self, only: Definition | None = None, *, anything: bool = True) -> None:
        self.only = only
        self.anything = anything
        self.shown: list[tuple[str, str]] = []

    def is_accepted(self, domain: str, digest: str) -> bool:
        """Say so, and remember the question."""
        self.shown.append((domain, digest))
        if self.only is not None:
            return self.only.digest == digest
        return self.anything

    def accepted(self, domain: str) -> Definition | None:
        """Return what alone is accepted."""
        return self.only
