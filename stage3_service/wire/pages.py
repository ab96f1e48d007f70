"""Page sizes and page tokens: small, opaque, and refused when they are not ours."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from stage3_service.errors import Reason, Refusal


def page_size(asked: int, *, default: int, most: int) -> int:
    """Return how many items a page holds: 0 asks for the default, too many for the most."""
    return min(asked or default, most)


def encode_page_token(*position: int | str) -> str:
    """Return a token that names where a page ended."""
    return urlsafe_b64encode(json.dumps(position).encode()).decode()


def decode_page_token(token: str, *shape: type[int | str]) -> tuple[int | str, ...] | None:
    """Return the position in a token of this shape, or None for an empty one.

    Raises:
        Refusal: REQUEST_INVALID, the token was not made here for this list.
    """
    if not token:
        return None
    try:
        position = json.loads(urlsafe_b64decode(token.encode()))
    except (ValueError, RecursionError):
        position = None
    if (
        not isinstance(position, list)
        or [type(item) for item in position] != list(shape)
        or not all(_can_be_stored(item) for item in position)
    ):
        description = "is not a token of this list; ask for the first page"
        raise Refusal(
            Reason.REQUEST_INVALID,
            f"page_token: {description}",
            (("page_token", description),),
        )
    return tuple(position)


def _can_be_stored(item: int | str) -> bool:
    """Return whether the store could hold it: a query for anything else is an error of its own."""
    return 0 <= item < 2**63 if isinstance(item, int) else item.isascii()
