"""RFC 8785 canonical JSON: one spelling for each value, so that digests and leaves name values.

It guards that equal values give equal bytes in every process and on every machine, and that what
has no canonical form is refused.

Deliberately absent: an own spelling of floats and of keys beyond the Basic Multilingual Plane;
those go to the `rfc8785` library. The rest is what the standard library's encoder already writes,
at a third of the cost.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from servicekit.ijson_walk import JsonValue

_MAX_SAFE_INTEGER: Final = 2**53 - 1
_LAST_OF_BASIC_PLANE: Final = "\uffff"

_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":")
).encode


def canonicalize(value: JsonValue) -> bytes:
    """Spell a value the one way that RFC 8785 allows.

    A tuple counts as an array; a member of an enumeration counts as the string or integer it is.

    Raises: ValueError for a float that is not finite, an integer beyond 2^53-1, a lone surrogate,
    nesting beyond the interpreter's stack, and anything that is not JSON.
    """
    try:
        if _is_plain(value):
            return _encode(value).encode("utf-8", "strict")
        import rfc8785

        return rfc8785.dumps(value)
    except RecursionError:
        raise ValueError("nested too deeply to be canonical JSON") from None


def _is_plain(value: object) -> bool:
    """Say whether the standard library's encoder spells this value as RFC 8785 does.

    Not with a float in it, nor with keys whose order by UTF-16 unit, which RFC 8785 asks for, may
    differ from their order by code point. What is not JSON is not plain either: the library that
    gets it refuses it.
    """
    members: Iterable[object]
    if isinstance(value, dict):
        if not _has_plain_keys(value):
            return False
        members = value.values()
    elif isinstance(value, list | tuple):
        members = value
    else:
        members = (value,)
    # Every value that is recorded passes here: what has members costs a call, what has none does
    # not.
    for member in members:
        if isinstance(member, str) or member is None:
            continue
        if isinstance(member, int):
            if not -_MAX_SAFE_INTEGER <= member <= _MAX_SAFE_INTEGER:
                return False
        elif not (isinstance(member, dict | list | tuple) and _is_plain(member)):
            return False
    return True


def _has_plain_keys(members: dict[Any, object]) -> bool:
    try:
        keys = "".join(members)
    except TypeError:
        return False
    return keys.isascii() or max(keys) <= _LAST_OF_BASIC_PLANE
