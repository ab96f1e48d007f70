"""The entry point of `stage4`."""

import sys

from stage4_service.cli.application import main as run


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
