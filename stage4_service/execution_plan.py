"""A plan that was validated and can no longer change.

Whoever holds a `Stage4ExecutionPlan` holds a valid plan: there is no other way to make one.
Deliberately absent: setters, defaults, and any way to write the credential down by accident; it is
masked where the plan is printed, and a plan is never pickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NoReturn, Self, TypeVar, cast

from servicekit.ijson import JsonValue
from stage4_service.frozen_json import FrozenArray, FrozenObject, freeze, sealed_slot
from stage4_service.limits import PlanLimits
from stage4_service.plan_validator import PlanInvalid, first_violation

_MASK: Final = "token_[masked]"
_DEFAULT_LIMITS: Final = PlanLimits()
PlanT = TypeVar("PlanT", bound="Stage4ExecutionPlan")


class Stage4ExecutionPlan:
    """A valid plan, immutable through and through: `Stage4ExecutionPlan(**plan_document)`.

    `data_bindings=None` means that the plan declares none; an empty list is a declaration.

    Raises: PlanInvalid, a ValueError that names the first error, for anything that
    `validate_strict_json_plan` refuses.
    """

    __slots__ = ("_document",)
    _document: FrozenObject

    # Not `__init__`, which anybody may call again with another document.
    def __new__(cls, /, **plan_document: object) -> Self:
        """Validate, copy and keep the document that the arguments spell."""
        # Python's way to leave an argument out. A document that spells null is refused.
        if plan_document.get("data_bindings", ()) is None:
            del plan_document["data_bindings"]
        return cls.from_document(plan_document)

    def __init_subclass__(cls) -> NoReturn:
        # A subclass could answer for its fields with values that nobody validated.
        raise TypeError("Stage4ExecutionPlan has no subclasses")

    @classmethod
    def from_document(cls, document: object, limits: PlanLimits = _DEFAULT_LIMITS) -> Self:
        """Make a plan of a parsed document, within `limits`.

        Raises: PlanInvalid.
        """
        # The copy is taken first, so that what is validated is what is kept, whoever else holds the
        # original.
        private = _copied(document, limits.max_depth, iter(range(limits.max_values)))
        return _made(cls, private, limits, is_json=False)

    @classmethod
    def from_parsed(cls, document: JsonValue, limits: PlanLimits = _DEFAULT_LIMITS) -> Self:
        """Make a plan of what `servicekit.ijson.parse` made within these limits, for nobody else.

        Raises: PlanInvalid.
        """
        return _made(cls, document, limits, is_json=True)

    @property
    def user_id(self) -> str:
        """Whom the plan acts for."""
        return cast("str", self._document["user_id"])

    @property
    def token_hash(self) -> str:
        """The presented credential. Secret."""
        return cast("str", self._document["token_hash"])

    @property
    def trigger_type(self) -> str:
        """Why the plan runs, as the client says."""
        return cast("str", self._document["trigger_type"])

    @property
    def steps(self) -> FrozenArray:
        """The operations, in the order in which they run."""
        return cast("FrozenArray", self._document["steps"])

    @property
    def data_bindings(self) -> FrozenArray | None:
        """The declared data flows, in the order in which they are applied; None if undeclared."""
        return cast("FrozenArray | None", self._document.get("data_bindings"))

    def copy(self) -> dict[str, Any]:
        """Return the document as plain mutable data, the credential included."""
        return self._document.copy()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Stage4ExecutionPlan):
            return self._document == other._document
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field}={_MASK if field == 'token_hash' else value!r}"
            for field, value in self._document.items()
        )
        return f"{type(self).__name__}({shown})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a plan holds a credential and is not pickled")


_fill = sealed_slot(Stage4ExecutionPlan, "_document")


def _made(cls: type[PlanT], private: object, limits: PlanLimits, *, is_json: bool) -> PlanT:
    violation = first_violation(private, limits, is_json=is_json)
    if violation is not None:
        raise PlanInvalid(violation)
    plan = object.__new__(cls)
    _fill(plan, freeze(private))
    return plan


def _copied(value: object, depth_left: int, budget: Iterator[int]) -> object:
    """Copy a document as deep and as wide as a valid one can be; the rest is refused anyway."""
    if next(budget, None) is None or depth_left == 0:
        return value
    kind = type(value)
    if kind is str:
        return value
    if kind is dict or kind is FrozenObject:
        value = cast("dict[str, object]", value)
        return {key: _copied(member, depth_left - 1, budget) for key, member in value.items()}
    if kind is list or kind is FrozenArray:
        value = cast("list[object]", value)
        return [_copied(element, depth_left - 1, budget) for element in value]
    return value
