"""The one way in which a token is refused before it exists."""

from __future__ import annotations


class IssueRefused(ValueError):
    """Say which field of a token breaks a rule, and the rule.

    The description may quote the operator's own words. It never holds a credential.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description
