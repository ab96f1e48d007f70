"""Reads what a tool answered into the one form that results have.

Guards the difference between an answer and an offer: a server that asks for something back has not
completed the call, and is never given it. Deliberately absent: the size of an answer and what is in
it, which `domains.answer` reads like any other domain's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.port import MAX_FAILURE_MESSAGE_BYTES, Answer, MethodFailed, Output

_COMPLETE: Final = "complete"


def read_result(result: Mapping[str, Any]) -> Answer:
    """Return the answer in the result of `tools/call`.

    A success is `{"structured_content": ...}` where the tool gave any, else `{"content": [...]}`,
    both as the server wrote them. A result that says it is an error is a failure with its texts.

    Raises:
        AnswerInvalid: it is no result of a tool, or holds what JSON has not.

    """
    kind = result.get("resultType", _COMPLETE)
    if kind != _COMPLETE:
        return MethodFailed("the tool asks for something back, which Stage-3 never gives")
    content = result.get("content")
    if not isinstance(content, list):
        raise AnswerInvalid("the answer has no list of contents")
    if result.get("isError", False) is not False:
        return MethodFailed(cut(_texts(content) or "the tool failed without a text"))
    structured = result.get("structuredContent")
    output = {"content": content} if structured is None else {"structured_content": structured}
    try:
        written = json.dumps(output, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return Output(written.encode())
    except ValueError as error:  # also a lone surrogate
        raise AnswerInvalid("the answer holds a value that JSON has not") from error


def read_error(code: int, message: str) -> MethodFailed:
    """Return the failure that a JSON-RPC error is, such as a tool that the server does not know."""
    return MethodFailed(cut(f"{code}: {message}"))


def cut(text: str) -> str:
    """Return as much of a text as a failure may hold."""
    return text.encode("utf-8", "replace")[:MAX_FAILURE_MESSAGE_BYTES].decode("utf-8", "ignore")


def _texts(content: list[Any]) -> str:
    found = (item.get("text") for item in content if isinstance(item, Mapping))
    return " ".join(text for text in found if isinstance(text, str))
