"""The entry point of `stage3`."""

import sys

from stage3_service.cli.application import main as run


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
