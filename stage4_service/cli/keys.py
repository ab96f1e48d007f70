"""`stage4 key`: the keys that stored outcomes are encrypted with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servicekit.cli.key_ring_commands import make_key_ring, rotate_key
from servicekit.cli.options import Json
from stage4_service.cli.options import ConfigFile, read_settings

app = typer.Typer(
    help="Make and rotate the keys that stored outcomes are encrypted with.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("new")
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key ring to make.")],
    as_json: Json = False,
) -> None:
    """Make a key ring of one new key, mode 0600, where `init` is not to make it itself.

    As for a secret that a deployment hands to Stage-4. Nothing is overwritten.
    """
    make_key_ring(file, as_json=as_json)


@app.command("rotate")
def rotate(config: ConfigFile = None, as_json: Json = False) -> None:
    """Add a new key to the ring that the settings name. The next start encrypts with it.

    That start records key_rotated. The keys before it stay, and decrypt what they encrypted.
    """
    rotate_key(read_settings(config).outcome_key_file, "Stage-4", as_json=as_json)
