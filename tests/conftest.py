"""What every floor shares: how hypothesis draws its examples, and names that stay.

Fixtures live beside the tests that use them; those of the catalogue, which all its files share,
live in `tests/harness/fixtures.py`.
"""

import os
import re

import pytest
from hypothesis import HealthCheck, settings

_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")

# `fast` draws the same examples in every run: a failure of `make test` is a failure for everybody.
settings.register_profile("fast", deadline=None, derandomize=True, database=None, print_blob=True)
# `long` searches: new examples each time, many more of them.
settings.register_profile(
    "long",
    deadline=None,
    max_examples=20_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("STAGEGATE_HYPOTHESIS_PROFILE", "fast"))

pytest_plugins = ["tests.harness.fixtures", "tests.harness.figures"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test whose name differs from process to process: two workers would disagree."""
    named_by_address = [item.nodeid for item in items if _ADDRESS.search(item.nodeid)]
    if named_by_address:
        raise pytest.UsageError(f"give these cases ids of their own: {named_by_address[:3]}")
