"""A second reader of docs/spec/plan-json.md, written from that page and for nothing but clarity.

It shares no code and no technique with servicekit.ijson: one pass over bytes, one function per
rule of the grammar, numbers compared as rational numbers. Slow, and never shipped.
"""

from fractions import Fraction

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_VALUES = 10_000
MAX_KEY_BYTES = 128
MAX_STRING_BYTES = 65_536
MAX_INTEGER = 2**53 - 1

DIGITS = frozenset(b"0123456789")
SPACE = frozenset(b" \t\n\r")
# Of a string, what stands for itself and is one byte.
PLAIN = frozenset(range(0x20, 0x80)) - frozenset(b'"\\')
HEX = frozenset(b"0123456789abcdefABCDEF")
SIMPLE_ESCAPES = {
    ord('"'): '"',
    ord("\\"): "\\",
    ord("/"): "/",
    ord("b"): "\b",
    ord("f"): "\f",
    ord("n"): "\n",
    ord("r"): "\r",
    ord("t"): "\t",
}


class Refused(Exception):
    """The document is not in the language."""


def read(data: bytes) -> object:
    """Give the value of a document, or raise Refused."""
    if len(data) > MAX_BYTES:
        raise Refused("rule 3")
    if data[:3] == b"\xef\xbb\xbf":
        raise Refused("rule 2")
    reader = _Reader(data)
    reader.space()
    value = reader.value(0)
    reader.space()
    if reader.at != len(data):
        raise Refused("text after the document")
    return value


class _Reader:
    """One position in one document."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.values = 0

    def peek(self) -> int:
        """Give the next byte, or -1 at the end."""
        return self.data[self.at] if self.at < len(self.data) else -1

    def take(self) -> int:
        byte = self.peek()
        if byte == -1:
            raise Refused("the document ends too early")
        self.at += 1
        return byte

    def expect(self, literal: bytes) -> None:
        for byte in literal:
            if self.take() != byte:
                raise Refused(f"not {literal!r}")

    def run_of(self, kind: frozenset[int]) -> bytes:
        """Take as many bytes as are of a kind, which may be none: most documents are such runs."""
        data, start = self.data, self.at
        end = start
        while end < len(data) and data[end] in kind:
            end += 1
        self.at = end
        return data[start:end]

    def space(self) -> None:
        self.run_of(SPACE)

    def value(self, depth: int) -> object:
        self.values += 1
        if self.values > MAX_VALUES:
            raise Refused("max_values")
        first = self.peek()
        if first == ord("{"):
            return self.members(depth + 1)
        if first == ord("["):
            return self.elements(depth + 1)
        if first == ord('"'):
            return self.string(MAX_STRING_BYTES)
        if first == ord("t"):
            self.expect(b"true")
            return True
        if first == ord("f"):
            self.expect(b"false")
            return False
        if first == ord("n"):
            self.expect(b"null")
            return None
        return self.number()

    def members(self, depth: int) -> dict[str, object]:
        if depth > MAX_DEPTH:
            raise Refused("max_depth")
        self.expect(b"{")
        self.space()
        members: dict[str, object] = {}
        if self.peek() == ord("}"):
            self.take()
            return members
        while True:
            key = self.string(MAX_KEY_BYTES)
            if key in members:
                raise Refused("rule 6")
            self.space()
            self.expect(b":")
            self.space()
            members[key] = self.value(depth)
            self.space()
            separator = self.take()
            if separator == ord("}"):
                return members
            if separator != ord(","):
                raise Refused("neither , nor }")
            self.space()

    def elements(self, depth: int) -> list[object]:
        if depth > MAX_DEPTH:
            raise Refused("max_depth")
        self.expect(b"[")
        self.space()
        elements: list[object] = []
        if self.peek() == ord("]"):
            self.take()
            return elements
        while True:
            elements.append(self.value(depth))
            self.space()
            separator = self.take()
            if separator == ord("]"):
                return elements
            if separator != ord(","):
                raise Refused("neither , nor ]")
            self.space()

    def string(self, max_bytes: int) -> str:
        self.expect(b'"')
        characters: list[str] = []
        while True:
            characters.append(self.run_of(PLAIN).decode("ascii"))
            first = self.peek()
            if first == ord('"'):
                self.take()
                break
            if first == ord("\\"):
                characters.append(self.escape())
            elif first < 0x20:
                raise Refused("a control character, or no end")
            else:
                characters.append(self.utf8())
        text = "".join(characters)
        if "\x00" in text:
            raise Refused("rule 5")
        if len(text.encode("utf-8")) > max_bytes:
            raise Refused("rule 7")
        return text

    def escape(self) -> str:
        self.expect(b"\\")
        kind = self.take()
        if kind in SIMPLE_ESCAPES:
            return SIMPLE_ESCAPES[kind]
        if kind != ord("u"):
            raise Refused("no such escape")
        unit = self.four_hex()
        if 0xD800 <= unit <= 0xDBFF:
            self.expect(b"\\u")
            low = self.four_hex()
            if not 0xDC00 <= low <= 0xDFFF:
                raise Refused("rule 4")
            return chr(0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00))
        if 0xDC00 <= unit <= 0xDFFF:
            raise Refused("rule 4")
        return chr(unit)

    def four_hex(self) -> int:
        unit = 0
        for _ in range(4):
            digit = self.take()
            if digit not in HEX:
                raise Refused("not a hexadecimal digit")
            unit = unit * 16 + int(chr(digit), 16)
        return unit

    def utf8(self) -> str:
        """Read one character by the table of RFC 3629, section 4."""
        first = self.take()
        if first <= 0x7F:
            return chr(first)
        if 0xC2 <= first <= 0xDF:
            code, following, lowest, highest = first & 0x1F, 1, 0x80, 0xBF
        elif 0xE0 <= first <= 0xEF:
            code, following = first & 0x0F, 2
            lowest = 0xA0 if first == 0xE0 else 0x80
            highest = 0x9F if first == 0xED else 0xBF
        elif 0xF0 <= first <= 0xF4:
            code, following = first & 0x07, 3
            lowest = 0x90 if first == 0xF0 else 0x80
            highest = 0x8F if first == 0xF4 else 0xBF
        else:
            raise Refused("rule 1")
        for _ in range(following):
            byte = self.take()
            if not lowest <= byte <= highest:
                raise Refused("rule 1")
            code = code << 6 | byte & 0x3F
            lowest, highest = 0x80, 0xBF
        return chr(code)

    def number(self) -> int | float:
        negative = self.peek() == ord("-")
        if negative:
            self.take()
        whole = self.digits()
        if len(whole) > 1 and whole[0] == "0":
            raise Refused("a leading zero")
        fraction = exponent = ""
        has_fraction = self.peek() == ord(".")
        if has_fraction:
            self.take()
            fraction = self.digits()
        has_exponent = self.peek() in (ord("e"), ord("E"))
        sign = 1
        if has_exponent:
            self.take()
            if self.peek() in (ord("+"), ord("-")):
                sign = -1 if self.take() == ord("-") else 1
            exponent = self.digits()
        size = exact(whole, fraction, sign, exponent)
        if size == 0:
            if negative:
                raise Refused("rule 8")
            return 0.0 if has_fraction or has_exponent else 0
        if size > MAX_INTEGER:
            raise Refused("rule 10, or 9: from 2^53 on there are only integers among doubles")
        # The language promises of dividing integers what the specification asks of d.
        double = size.numerator / size.denominator
        if Fraction(repr(double)) != size:
            raise Refused("rule 9")
        if has_fraction or has_exponent:
            return -double if negative else double
        return -size.numerator if negative else size.numerator

    def digits(self) -> str:
        digits = self.run_of(DIGITS)
        if not digits:
            raise Refused("no digit")
        return digits.decode("ascii")


def exact(whole: str, fraction: str, sign: int, exponent: str) -> Fraction:
    """Give the number that the digits spell, refusing what is far outside any double first."""
    digits = (whole + fraction).strip("0")
    if not digits:
        return Fraction(0)
    if len(digits) > 800:
        raise Refused("rule 9 or 10: no shortest spelling has so many digits")
    magnitude = exponent.lstrip("0") or "0"
    if len(magnitude) > 8:
        raise Refused("rule 9 or 10: far too large or too small")
    trailing = len(whole + fraction) - len((whole + fraction).rstrip("0"))
    power = sign * int(magnitude) - len(fraction) + trailing
    if not -1200 < power < 400:
        raise Refused("rule 9 or 10: too large or too small")
    if power < 0:
        return Fraction(int(digits), 10**-power)
    return Fraction(int(digits) * 10**power)
