"""Which release of a service runs, as its installation says.

Deliberately absent: a version written in the source, which could differ from the installed one.
"""

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown"


def installed_version(*distributions: str) -> str:
    """Return the version of the first of these that is installed, or `unknown` in a bare tree."""
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return UNKNOWN
