"""A plan in a file, and the token that goes into it at the last moment.

The document is sent as it was written. Where its `token_hash` is the placeholder, that one JSON
string is replaced and no other byte changes. Deliberately absent: re-spelling, and any validation
that decides whether to send: a malformed plan is Stage-4's to refuse, and to record.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from servicekit.cli.failure import CommandFailed
from servicekit.cli.private_file import read_private_text
from servicekit.ijson import JsonLimits, JsonRefused, parse
from servicekit.process import ExitCode
from stage4_service.limits import PlanLimits
from stage4_service.plan_document import PlanDocument, read_plan_document
from stage4_service.plan_validator import PlanInvalid, Violation

PLACEHOLDER: Final = "REPLACE_WITH_TOKEN"
TOKEN_VARIABLE: Final = "STAGEGATE_TOKEN"
# Stage-4 refuses what is over 256 KiB. Reading stops where no message could carry it.
_MAX_FILE_BYTES: Final = 8 * 1024 * 1024
_CREDENTIAL: Final = re.compile(r"token_[A-Za-z0-9_-]{43}")
_AT_BYTE: Final = re.compile(r"\bat byte ([0-9]+)\b")
_LIMITS: Final = JsonLimits(max_bytes=_MAX_FILE_BYTES)


@dataclass(frozen=True, slots=True)
class StepName:
    """What a step calls, for people."""

    domain: str
    method: str


def read_plan_file(path: Path) -> bytes:
    """Return the bytes of the plan; `-` reads standard input.

    Raises:
        CommandFailed: it cannot be read, or is much too long.
    """
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandFailed(
            ExitCode.REFUSED,
            "FILE_REFUSED",
            f"{path}: {error.strerror}",
            "Name a plan document; examples/plans/ holds some.",
        ) from None
    if len(data) > _MAX_FILE_BYTES:
        raise CommandFailed(
            ExitCode.REFUSED,
            "FILE_REFUSED",
            f"{path}: has more than {_MAX_FILE_BYTES} bytes",
            "A plan has at most 262144.",
        )
    return data


def fill_token(plan_json: bytes, token_file: Path | None, from_environment: str) -> bytes:
    """Return the document with the token in the place of the placeholder.

    A document with a `token_hash` of its own is returned as it is.

    Raises:
        CommandFailed: a token is needed and there is none, or what there is is no token; or a token
            file was named for a document that is no plan, or has its own.
    """
    span = _placeholder(plan_json)
    if span is None:
        if token_file is not None:
            # A document that is no plan has no place for a token, and that is not what is wrong.
            read_valid_plan(plan_json)
            raise CommandFailed(
                ExitCode.USAGE,
                "USAGE",
                f"the plan's token_hash is not {PLACEHOLDER!r}: --token-file has no place to go",
                "Leave --token-file out, or put the placeholder in the plan.",
            )
        return plan_json
    token = from_environment if token_file is None else read_private_text(token_file)
    if not token:
        raise CommandFailed(
            ExitCode.USAGE,
            "TOKEN_MISSING",
            "the plan needs a token",
            f"Name its file with --token-file, or set {TOKEN_VARIABLE}; an operator issues one "
            "with `stage3 token issue --output FILE`.",
        )
    if _CREDENTIAL.fullmatch(token) is None:
        where = TOKEN_VARIABLE if token_file is None else str(token_file)
        # What is there is not shown: it may be another secret.
        raise CommandFailed(
            ExitCode.CONFIG,
            "TOKEN_MALFORMED",
            f"{where} does not hold a token (token_ and 43 characters)",
            "Use what `stage3 token issue` wrote, whole.",
        )
    start, end = span
    return plan_json[:start] + f'"{token}"'.encode("ascii") + plan_json[end:]


def read_valid_plan(plan_json: bytes) -> PlanDocument:
    """Return the plan that the document is, by Stage-4's rules with the default limits.

    Raises:
        CommandFailed: PLAN_INVALID, with the first error in the validator's words.
    """
    try:
        return read_plan_document(plan_json, PlanLimits())
    except PlanInvalid as invalid:
        raise CommandFailed(
            ExitCode.REFUSED,
            "PLAN_INVALID",
            str(invalid.violation),
            _where(plan_json, invalid.violation),
        ) from invalid


def step_names(plan_json: bytes) -> tuple[StepName, ...]:
    """Return what the steps call, as far as the document says so."""
    try:
        plan = parse(plan_json, _LIMITS).value
    except JsonRefused:
        return ()
    steps = plan.get("steps") if isinstance(plan, dict) else None
    return tuple(
        StepName(str(step.get("domain")), str(step.get("method")))
        for step in (steps if isinstance(steps, list) else ())
        if isinstance(step, dict)
    )


def _where(plan_json: bytes, violation: Violation) -> str:
    path, description = violation
    found = _AT_BYTE.search(description)
    if found is not None:
        before = plan_json[: int(found[1])]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        return f"Correct line {line}, column {column}, or what is just before it."
    return "Correct it there." if path else "Correct the document as a whole."


def _placeholder(plan_json: bytes) -> tuple[int, int] | None:
    try:
        parsed = parse(plan_json, _LIMITS, span_depth=1)
    except JsonRefused:
        return None
    if isinstance(parsed.value, dict) and parsed.value.get("token_hash") == PLACEHOLDER:
        return parsed.spans["token_hash",]
    return None
