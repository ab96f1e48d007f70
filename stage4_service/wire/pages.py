"""Page sizes and page tokens: small, opaque, and refused when they are not ours."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"[pe](0|[1-9][0-9]{0,17})", re.ASCII)


class PageTokenInvalid(ValueError):
    """Say that a page token was not made by this service for this list."""


def page_size(asked: int, *, default: int, most: int) -> int:
    """Return how many items a page holds: 0 asks for the default, too many for the most."""
    return min(asked or default, most)


def encode_page_token(kind: str, position: int) -> str:
    """Return a token that names where a page of this kind of list ended."""
    return f"{kind}{position}"


def decode_page_token(kind: str, token: str) -> int | None:
    """Return the position in a token of this kind of list, None for an empty one.

    Raises: PageTokenInvalid.
    """
    if not token:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None or not token.startswith(kind):
        raise PageTokenInvalid("is not a token of this list; ask for the first page")
    return int(match[1])
