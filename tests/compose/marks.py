"""What every module of these tests is marked with, as its `pytestmark`.

They share one engine and one pair: run them in one process, as `make test-ci` does.
"""

import pytest

COMPOSED = [pytest.mark.ci, pytest.mark.timeout(900)]
