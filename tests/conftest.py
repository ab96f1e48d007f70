"""What every floor shares: how hypothesis draws its examples.

Fixtures live beside the tests that use them; those of the catalogue, which all its files share,
live in `tests/harness/fixtures.py`.
"""

import os

from hypothesis import HealthCheck, settings

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
