"""Which numbers of a JSON document are accepted, and as what.

It guards that a number means the same to a reader that computes in doubles and to one that reads
decimals: its exact decimal value must be the value of its double's shortest round-trip spelling.
An integer must lie within 2^53-1 of zero, however it is spelled, and zero has no sign.

Deliberately absent: rounding. A number that would need it is refused.
"""

from decimal import Decimal
from typing import Final

_MAX_SAFE_INTEGER: Final = 2**53 - 1

# Up to 15 significant digits come back from a double unchanged, and stay below 2^53.
_ALWAYS_EXACT_LENGTH: Final = 15
_LONGEST_INTEGER: Final = 17

_INEXACT: Final = "a number that a double does not hold exactly as written"
_MINUS_ZERO: Final = "minus zero"
_TOO_LARGE: Final = "an integer beyond 2^53-1"


class Flaw(Exception):
    """Say what is wrong with a value, where its path is not known.

    `number` is how the document spells the value, when that is a number.
    """

    def __init__(self, description: str, number: str = "") -> None:
        super().__init__(description)
        self.description = description
        self.number = number


def read_integer(text: str) -> int:
    """Read a JSON number that has neither fraction nor exponent.

    Raises: Flaw on minus zero and beyond 2^53-1.
    """
    if len(text) <= _ALWAYS_EXACT_LENGTH:
        if text == "-0":
            raise Flaw(_MINUS_ZERO, text)
        return int(text)
    if len(text) <= _LONGEST_INTEGER:
        number = int(text)
        if -_MAX_SAFE_INTEGER <= number <= _MAX_SAFE_INTEGER:
            return number
    raise Flaw(_TOO_LARGE, text)


def read_float(text: str) -> float:
    """Read a JSON number that has a fraction or an exponent.

    Raises: Flaw on minus zero, on an integer beyond 2^53-1 in any spelling, and on every number
    whose exact value its double's shortest spelling does not have, underflow included.
    """
    number = float(text)
    if number == 0.0:
        if text.replace("E", "e").partition("e")[0].strip("-0."):
            raise Flaw(_INEXACT, text)
        if text[0] == "-":
            raise Flaw(_MINUS_ZERO, text)
        return number
    if len(text) <= _ALWAYS_EXACT_LENGTH and "e" not in text and "E" not in text:
        return number
    # From 2^53 on every double is an integer; infinity stands for those beyond the last.
    if not -_MAX_SAFE_INTEGER <= number <= _MAX_SAFE_INTEGER:
        raise Flaw(_TOO_LARGE, text)
    # Exact whatever the decimal context says: neither constructing nor comparing rounds. The
    # exponent is in Decimal's range because the double is neither zero nor infinite.
    shortest = repr(number)
    if text != shortest and Decimal(text) != Decimal(shortest):
        raise Flaw(_INEXACT, text)
    return number
