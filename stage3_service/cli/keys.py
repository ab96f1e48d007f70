"""`stage3 key`: the keys that stored outcomes are encrypted with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from servicekit.cli.options import Json
from servicekit.cli.output import emit, print_facts, say
from stage3_service.cli.options import ConfigFile, read_settings

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

    As for a secret that a deployment hands to Stage-3. Nothing is overwritten.
    """
    from servicekit.store.key_ring_file import create_key_ring, read_key_ring

    create_key_ring(file, os.urandom)
    key_id = read_key_ring(file, os.urandom).current
    if as_json:
        emit({"file": str(file), "key_id": key_id})
        return
    print_facts({"file": str(file), "key_id": key_id})


@app.command("rotate")
def rotate(config: ConfigFile = None, as_json: Json = False) -> None:
    """Add a new key to the ring that the settings name. The next start encrypts with it.

    That start records KEY_ROTATED. The keys before it stay, and decrypt what they encrypted.
    """
    from servicekit.store.key_ring_file import add_key

    file = read_settings(config).outcome_key_file
    previous, key_id = add_key(file, os.urandom)
    if as_json:
        emit({"file": str(file), "key_id": key_id, "previous_key_id": previous})
        return
    print_facts({"file": str(file), "key_id": key_id, "previous_key_id": previous})
    say("next: back the file up, and start Stage-3 again")
