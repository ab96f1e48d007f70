"""The builtin domain `dates`: arithmetic of instants (RFC 3339) and of calendar dates.

Guards nothing. Instants answer in UTC with as many decimals as they need, so that one instant has
one spelling. Deliberately absent: the time now, which would make an answer depend on more than its
parameters; time zones, whose rules change; and leap seconds, which arithmetic in seconds does not
know.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import MethodRefused, Parameters, as_integer, example
from stage3_service.adapters.builtin.pure_domain import PureDomain, pure_method

_RESULT_BYTES: Final = 128
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WEEKDAYS: Final = (
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Instant = Annotated[str, Field(max_length=40)]
_Date = Annotated[str, Field(max_length=10)]
# More than all the years that have a name, and far from what a double cannot count.
_Seconds = Annotated[
    int, Field(ge=-400_000_000_000, le=400_000_000_000), BeforeValidator(as_integer)
]
_Days = Annotated[int, Field(ge=-4_000_000, le=4_000_000), BeforeValidator(as_integer)]


class InstantParameters(Parameters):
    """Parameters of `parse`."""

    instant: _Instant


class AddParameters(Parameters):
    """Parameters of `add`."""

    instant: _Instant
    seconds: _Seconds


class DifferenceParameters(Parameters):
    """Parameters of `difference`."""

    earlier: _Instant
    later: _Instant


class DateParameters(Parameters):
    """Parameters of `weekday`."""

    date: _Date


class AddDaysParameters(Parameters):
    """Parameters of `add_days`."""

    date: _Date
    days: _Days


def parse(parameters: InstantParameters) -> JsonValue:
    """Return the instant in UTC, and the whole seconds since 1970 with the rest."""
    instant = _instant("instant", parameters.instant)
    seconds, microseconds = _parts(instant - _EPOCH)
    return {"instant": _spelled(instant), "unix_s": seconds, "microseconds": microseconds}


def add(parameters: AddParameters) -> JsonValue:
    """Return the instant so many seconds later, or earlier where they are negative."""
    instant = _instant("instant", parameters.instant)
    try:
        return {"instant": _spelled(instant + timedelta(seconds=parameters.seconds))}
    except OverflowError:
        raise MethodRefused("the result is not in the years 0001 to 9999") from None


def difference(parameters: DifferenceParameters) -> JsonValue:
    """Return how much later the one instant is, in whole seconds and microseconds."""
    between = _instant("later", parameters.later) - _instant("earlier", parameters.earlier)
    seconds, microseconds = _parts(between)
    return {"seconds": seconds, "microseconds": microseconds}


def weekday(parameters: DateParameters) -> JsonValue:
    """Return the day of the week, and the week of ISO 8601 that the date is in."""
    found = _date(parameters.date)
    year, week, number = found.isocalendar()
    return {"weekday": _WEEKDAYS[number - 1], "iso_year": year, "iso_week": week}


def add_days(parameters: AddDaysParameters) -> JsonValue:
    """Return the date so many days later, or earlier where they are negative."""
    try:
        return {"date": (_date(parameters.date) + timedelta(days=parameters.days)).isoformat()}
    except OverflowError:
        raise MethodRefused("the result is not in the years 0001 to 9999") from None


def _instant(name: str, text: str) -> datetime:
    if _INSTANT.fullmatch(text) is None:
        raise MethodRefused(f"{name}: is not RFC 3339 with T, an offset and at most 6 decimals")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MethodRefused(f"{name}: is no instant of the years 0001 to 9999") from None


def _date(text: str) -> date:
    if _DATE.fullmatch(text) is None:
        raise MethodRefused("date: is not YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise MethodRefused("date: is no day of the calendar") from None


def _parts(between: timedelta) -> tuple[int, int]:
    return between.days * 86_400 + between.seconds, between.microseconds


def _spelled(instant: datetime) -> str:
    text = instant.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".") + "Z"


DATES: Final = PureDomain(
    "dates",
    pure_method(
        parse,
        InstantParameters,
        "Reads an RFC 3339 instant.",
        _RESULT_BYTES,
        example(
            {"instant": "2026-03-01T09:30:00.250+01:00"},
            {"instant": "2026-03-01T08:30:00.25Z", "unix_s": 1772353800, "microseconds": 250000},
        ),
    ),
    pure_method(
        add,
        AddParameters,
        "Moves an instant by seconds.",
        _RESULT_BYTES,
        example(
            {"instant": "2028-02-28T23:00:00Z", "seconds": 7200},
            {"instant": "2028-02-29T01:00:00Z"},
        ),
    ),
    pure_method(
        difference,
        DifferenceParameters,
        "Says how much later an instant is.",
        _RESULT_BYTES,
        example(
            {"earlier": "2026-01-01T00:00:00Z", "later": "2026-01-02T00:00:00.5Z"},
            {"seconds": 86400, "microseconds": 500000},
        ),
    ),
    pure_method(
        weekday,
        DateParameters,
        "Says the day of the week.",
        _RESULT_BYTES,
        example({"date": "2026-01-01"}, {"weekday": "thursday", "iso_year": 2026, "iso_week": 1}),
    ),
    pure_method(
        add_days,
        AddDaysParameters,
        "Moves a date by days.",
        _RESULT_BYTES,
        example({"date": "2028-02-28", "days": 2}, {"date": "2028-03-01"}),
    ),
)
"""The domain itself."""
