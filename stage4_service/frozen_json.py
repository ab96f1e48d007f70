"""JSON that cannot change: arrays and objects that compare like lists and dicts, and only that.

What was validated is what is executed, because nobody in between can write to it. Deliberately
absent: any way to build one from data that was not copied first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, Self, TypeAlias, cast

from servicekit.ijson import JsonValue

FrozenValue: TypeAlias = "bool | int | float | str | FrozenArray | FrozenObject | None"


class FrozenArray(tuple[Any, ...]):
    """A tuple that equals the list it was made from."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __init_subclass__(cls) -> NoReturn:
        """Refuse: what is frozen is told by its exact type."""
        raise TypeError("FrozenArray has no subclasses")

    def __eq__(self, other: object) -> bool:
        """Compare by content with a list or a tuple."""
        if isinstance(other, list | tuple):
            return list(self) == list(other)
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        """Differ exactly where not equal; a tuple's own answer would not know lists."""
        return not self == other

    def __repr__(self) -> str:
        """Show the list it equals."""
        return repr(list(self))

    def __copy__(self) -> FrozenArray:
        """Return itself: nothing can change it."""
        return self

    def __deepcopy__(self, memo: object) -> FrozenArray:
        """Return itself: nothing can change it, all the way down."""
        return self

    def copy(self) -> list[Any]:
        """Return plain mutable data that shares nothing with this array."""
        return list(map(thaw, self))


class FrozenObject(Mapping[str, Any]):
    """A mapping without setters that equals the dict it was made from."""

    __slots__ = ("_members",)
    _members: Mapping[str, FrozenValue]

    def __init_subclass__(cls) -> NoReturn:
        """Refuse: what is frozen is told by its exact type."""
        raise TypeError("FrozenObject has no subclasses")

    # Not `__init__`, which anybody may call again.
    def __new__(cls, members: Mapping[str, FrozenValue]) -> Self:
        """Hold a private copy of `members`, whose values are frozen already."""
        self = super().__new__(cls)
        _fill(self, MappingProxyType(dict(members)))
        return self

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - JSON, read like json.loads's answer
        """Return the member `key`."""
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys in document order."""
        return iter(self._members)

    def __len__(self) -> int:
        """Count the members."""
        return len(self._members)

    def __repr__(self) -> str:
        """Show the dict it equals."""
        return repr(dict(self._members))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse."""
        message = f"{type(self).__name__} is immutable"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse."""
        message = f"{type(self).__name__} is immutable"
        raise AttributeError(message)

    def __copy__(self) -> FrozenObject:
        """Return itself: nothing can change it."""
        return self

    def __deepcopy__(self, memo: object) -> FrozenObject:
        """Return itself: nothing can change it, all the way down."""
        return self

    def copy(self) -> dict[str, Any]:
        """Return plain mutable data that shares nothing with this object."""
        return {
            key: member if type(member) is str else thaw(member)
            for key, member in self._members.items()
        }


def sealed_slot(owner: type, name: str) -> Callable[[object, object], None]:
    """Make a slot read-only, to `object.__setattr__` too; return the one way left to fill it."""
    slot = owner.__dict__[name]
    setattr(owner, name, property(slot.__get__))
    fill: Callable[[object, object], None] = slot.__set__
    return fill


_fill = sealed_slot(FrozenObject, "_members")


def freeze(value: object) -> FrozenValue:
    """Return an immutable copy of a JSON value, all the way down.

    Raises: TypeError for a value that is not JSON.
    """
    # By exact type first: a class that a mapping's abstract base is asked about costs a search.
    kind = type(value)
    if kind is str or kind is FrozenArray or kind is FrozenObject:
        return cast("FrozenValue", value)
    match value:
        case list():
            return FrozenArray(map(freeze, value))
        case dict():
            return FrozenObject({key: freeze(member) for key, member in value.items()})
        case None | bool() | int() | float() | str() | FrozenArray() | FrozenObject():
            return value
        case _:
            message = f"{type(value).__name__} is not a JSON value"
            raise TypeError(message)


def thaw(value: FrozenValue) -> JsonValue:
    """Return a plain mutable copy of a frozen value, all the way down."""
    kind = type(value)
    if kind is FrozenArray or kind is FrozenObject:
        return cast("FrozenArray | FrozenObject", value).copy()
    return cast("JsonValue", value)
