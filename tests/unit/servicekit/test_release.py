"""Which release is told, and what a bare tree says."""

from importlib.metadata import version

from servicekit.release import UNKNOWN, installed_version


def test_the_first_installed_distribution_tells() -> None:
    """One that is not installed is passed over."""
    assert installed_version("stagegate-nowhere", "grpcio") == version("grpcio")


def test_a_bare_tree_has_no_release() -> None:
    """Nothing is invented."""
    assert installed_version("stagegate-nowhere") == UNKNOWN
