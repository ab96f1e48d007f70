"""The builtin domain `units`: conversions that are exact, because they are fractions.

A value is a decimal in a string, in and out: a double would lose what somebody wrote. Each unit is
an exact fraction of its quantity's base unit, by definition and not by measurement. Deliberately
absent: rounding nobody asked for. What has no finite decimal is refused by `convert`, and rounded
by `convert_rounded` to the decimals that the plan names.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import MethodRefused, Parameters, as_integer, example
from stage3_service.adapters.builtin.pure_domain import PureDomain, pure_method

_RESULT_BYTES: Final = 256
_MAX_DECIMALS: Final = 60
_PRECISION: Final = 200
"""Digits that hold every result: 30 before the point, 30 behind it, and 24 for the largest unit."""

_ZERO: Final = Fraction(0)


def _of(quantity: str, **units: str) -> dict[str, tuple[str, Fraction, Fraction]]:
    return {name: (quantity, Fraction(size), _ZERO) for name, size in units.items()}


# Quantity, size in its base unit, and the base unit's value at zero.
_UNITS: Final[Mapping[str, tuple[str, Fraction, Fraction]]] = MappingProxyType(
    {
        **_of("length", m="1", km="1000", cm="1/100", mm="1/1000", um="1/1000000"),
        **_of("length", nm="1/1000000000", nmi="1852"),
        **_of("length", **{"in": "0.0254"}, ft="0.3048", yd="0.9144", mi="1609.344"),
        **_of("mass", kg="1", g="1/1000", mg="1/1000000", t="1000"),
        **_of("mass", lb="0.45359237", oz="0.028349523125"),
        **_of("time", s="1", ms="1/1000", min="60", h="3600", d="86400"),
        **_of("data", bit="1/8", B="1", kB="1000", MB="1000000", GB="1000000000"),
        **_of("data", TB="1000000000000", KiB="1024", MiB="1048576", GiB="1073741824"),
        **_of("data", TiB="1099511627776"),
        "K": ("temperature", Fraction(1), _ZERO),
        "degC": ("temperature", Fraction(1), Fraction("273.15")),
        "degF": ("temperature", Fraction(5, 9), Fraction("273.15") - Fraction(160, 9)),
    }
)

_Unit = Annotated[str, Field(max_length=8)]
_Value = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?$")]


class ConvertParameters(Parameters):
    """Parameters of `convert`."""

    value: _Value
    from_unit: _Unit
    to_unit: _Unit


class ConvertRoundedParameters(Parameters):
    """Parameters of `convert_rounded`."""

    value: _Value
    from_unit: _Unit
    to_unit: _Unit
    decimals: Annotated[int, Field(ge=0, le=30), BeforeValidator(as_integer)]


def convert(parameters: ConvertParameters) -> JsonValue:
    """Return the value in the other unit, exactly.

    Raises:
        MethodRefused: a unit is unknown, they measure different things, or the result has no
            finite decimal.

    """
    result = _converted(parameters.value, parameters.from_unit, parameters.to_unit)
    rest = result.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1:
        raise MethodRefused("the result has no finite decimal; convert_rounded takes decimals")
    return {"value": _decimal(result, _MAX_DECIMALS, exact=True), "unit": parameters.to_unit}


def convert_rounded(parameters: ConvertRoundedParameters) -> JsonValue:
    """Return the value in the other unit, rounded half to even.

    Raises:
        MethodRefused: a unit is unknown, or they measure different things.

    """
    result = _converted(parameters.value, parameters.from_unit, parameters.to_unit)
    value = _decimal(result, parameters.decimals, exact=False)
    return {"value": value, "unit": parameters.to_unit}


def _converted(value: str, from_unit: str, to_unit: str) -> Fraction:
    source, target = _unit("from_unit", from_unit), _unit("to_unit", to_unit)
    if source[0] != target[0]:
        raise MethodRefused(f"{from_unit} measures {source[0]} and {to_unit} {target[0]}")
    return (Fraction(value) * source[1] + source[2] - target[2]) / target[1]


def _unit(name: str, unit: str) -> tuple[str, Fraction, Fraction]:
    found = _UNITS.get(unit)
    if found is None:
        raise MethodRefused(f"{name}: is none of {', '.join(_UNITS)}")
    return found


def _decimal(number: Fraction, decimals: int, *, exact: bool) -> str:
    with localcontext(Context(prec=_PRECISION, rounding=ROUND_HALF_EVEN)):
        scaled = round(number * 10**decimals)
        if exact and Fraction(scaled, 10**decimals) != number:
            raise MethodRefused(f"the result has more than {decimals} decimals")
        text = f"{Decimal(scaled).scaleb(-decimals):f}"
    if exact and "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if exact and text == "-0" else text


UNITS: Final = PureDomain(
    "units",
    pure_method(
        convert,
        ConvertParameters,
        "Converts a decimal exactly.",
        _RESULT_BYTES,
        example(
            {"value": "26.2", "from_unit": "mi", "to_unit": "km"},
            {"value": "42.1648128", "unit": "km"},
        ),
    ),
    pure_method(
        convert_rounded,
        ConvertRoundedParameters,
        "Converts a decimal and rounds it.",
        _RESULT_BYTES,
        example(
            {"value": "100", "from_unit": "m", "to_unit": "ft", "decimals": 2},
            {"value": "328.08", "unit": "ft"},
        ),
    ),
)
"""The domain itself."""
