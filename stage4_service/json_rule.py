"""The eighth rule: a plan is made of JSON values, and of nothing else.

Accepted are exactly the types that a JSON parser makes (no subclass of them), with the values that
I-JSON (RFC 7493) lets two parties agree on. Deliberately absent: any conversion. A tuple is not
silently a list, and a number that two readers would read differently is not rounded.
"""

from __future__ import annotations

import math
from typing import Any, Final

from stage4_service.limits import PlanLimits

# The greatest integer that every double-based JSON reader reads exactly (RFC 7493, section 2.2).
MAX_SAFE_INTEGER: Final = 2**53 - 1
_TOO_LARGE: Final = "is an integer beyond ±(2^53-1)"


class JsonFault:
    """Where a document breaks the rule (segments from the leaf upwards), and how."""

    __slots__ = ("description", "segments")

    def __init__(self, description: str) -> None:
        """Start at the value that is at fault; the walk adds the segments as it returns."""
        self.description = description
        self.segments: list[str | int] = []


def first_json_fault(document: object, limits: PlanLimits) -> JsonFault | None:
    """Return the first value that is not JSON, else the first one over a limit, else None.

    First means first in document order. Terminates on every input, cyclic ones included, after at
    most `limits.max_values` values.
    """
    search = _Walk(limits, report_limits=False)
    fault = search.first_fault(document, 1)
    if fault is None and search.is_over_limit:
        fault = _Walk(limits, report_limits=True).first_fault(document, 1)
    return fault


class _Walk:
    """One depth-first pass; a path costs nothing unless there is a fault to name."""

    __slots__ = ("is_over_limit", "limits", "remaining", "report_limits")

    def __init__(self, limits: PlanLimits, *, report_limits: bool) -> None:
        self.limits = limits
        self.remaining = limits.max_values
        self.report_limits = report_limits
        self.is_over_limit = False

    def first_fault(self, value: object, depth: int) -> JsonFault | None:
        self.remaining -= 1
        if self.remaining < 0:
            return self._over_limit(f"more than {self.limits.max_values} values")
        if value is None or value is True or value is False:
            return None
        if type(value) is str:
            return self._string_fault(value, self.limits.max_string_bytes, "string")
        if type(value) is int or type(value) is float:
            return _number_fault(value)
        if type(value) is list or type(value) is dict:
            if depth > self.limits.max_depth:
                return self._over_limit(f"nested deeper than {self.limits.max_depth} levels")
            if isinstance(value, list):
                return self._array_fault(value, depth)
            return self._object_fault(value, depth)
        return JsonFault("is not a JSON value")

    def _array_fault(self, array: list[object], depth: int) -> JsonFault | None:
        for index, element in enumerate(array):
            fault = self.first_fault(element, depth + 1)
            if fault is not None:
                fault.segments.append(index)
                return fault
        return None

    def _object_fault(self, members: dict[Any, object], depth: int) -> JsonFault | None:
        for key, member in members.items():
            if type(key) is not str:
                return JsonFault("has a key that is not a string")
            fault = self._string_fault(key, self.limits.max_key_bytes, "key")
            if fault is not None:
                return fault
            fault = self.first_fault(member, depth + 1)
            if fault is not None:
                fault.segments.append(key)
                return fault
        return None

    def _string_fault(self, text: str, max_bytes: int, noun: str) -> JsonFault | None:
        if "\x00" in text:
            return JsonFault(f"{noun} contains U+0000")
        size = len(text)
        if not text.isascii():
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                return JsonFault(f"{noun} contains a lone surrogate")
        if size > max_bytes:
            return self._over_limit(f"{noun} is longer than {max_bytes} bytes")
        return None

    def _over_limit(self, description: str) -> JsonFault | None:
        self.is_over_limit = True
        return JsonFault(description) if self.report_limits else None


def _number_fault(number: float) -> JsonFault | None:
    # Asked of floats only: an int too large for a double is an error to these functions.
    if isinstance(number, int):
        return JsonFault(_TOO_LARGE) if abs(number) > MAX_SAFE_INTEGER else None
    if not math.isfinite(number):
        return JsonFault("is not a finite number")
    if number == 0 and math.copysign(1, number) < 0:
        return JsonFault("is minus zero")
    # Also for a float: the canonical form of 1e300 is an integer literal, which no strict reader
    # would accept back.
    if abs(number) > MAX_SAFE_INTEGER and number == math.floor(number):
        return JsonFault(_TOO_LARGE)
    return None
