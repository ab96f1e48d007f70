"""What `init` of every service does around the making of its state.

Deliberately absent: making any of it while serving. A store that vanished must not be taken for one
that never was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from servicekit.cli.failure import CommandFailed
from servicekit.cli.output import emit, print_table, say
from servicekit.new_file import new_file
from servicekit.process import ExitCode


def init_service(
    program: str,
    config: Path | None,
    *,
    starter: Callable[[], tuple[Path, str]],
    create_state: Callable[[Path], Sequence[Path]],
    as_json: bool,
) -> None:
    """Create the state that `config` describes and say what was made.

    Without `config` a settings file is written first, with the path and the text of `starter`; it
    goes again if the state cannot be made. `create_state` gets the settings file and returns what
    it made. With `config`, and nothing missing, that is said, and it is no failure.

    Raises:
        CommandFailed: FILE_EXISTS, nothing is overwritten; STORE_EXISTS, the state of settings that
            are gone is there.
        Exception: whatever `create_state` raises.
    """
    written = None
    if config is None:
        config = written = _write_new(*starter())
    try:
        created = create_state(config)
    except Exception:
        # Half an init would refuse the whole one: what it wrote goes with it.
        if written is not None:
            written.unlink()
        raise
    if written is not None and not created:
        # Settings that are new say nothing of how this state was served.
        written.unlink()
        raise CommandFailed(
            ExitCode.CONFIG,
            "STORE_EXISTS",
            f"the state that {written} would describe is there, and {written} is not",
            "Restore the settings file and use it with --config, or choose another directory.",
        )
    if as_json:
        emit({"config": str(config), "created": [str(path) for path in created]})
        return
    if not created:
        say("Everything is there already; nothing was made.")
    else:
        made = [("settings", written)] if written is not None else []
        print_table(("made", "file"), [*made, *(("state", path) for path in created)])
        if written is None:
            say("What was there already was left as it is.")
    say(f"next: {program} serve --config {config}")


def _write_new(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with new_file(path, mode=0o644) as draft:
            draft.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise CommandFailed(
            ExitCode.REFUSED,
            "FILE_EXISTS",
            f"{path} exists already",
            f"Use it with --config {path}, or remove it first.",
        ) from None
    return path
