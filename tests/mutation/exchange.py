"""Which functions differ between two sources of a module, to exchange their code where they are.

Whoever imported a function goes on holding the same object, with other code in it. Deliberately
absent: what the import of a module makes (constants, defaults, classes), which others may have
copied by then.
"""

from __future__ import annotations

import inspect
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType


def changed_functions(before: str, after: str) -> Mapping[str, CodeType] | None:
    """Return the functions that two sources of a module do not share, by qualified name.

    None if the sources differ in what an import of the module does.
    """
    old, new = (
        compile(source, "<mutated>", "exec", dont_inherit=True) for source in (before, after)
    )
    if _outline(old) != _outline(new):
        return None
    earlier = {name: _spelled(code) for name, code in _functions(old)}
    return {name: code for name, code in _functions(new) if _spelled(code) != earlier.get(name)}


def functions_of(source: str) -> Mapping[str, CodeType]:
    """Return every function of a module's source, by qualified name."""
    return dict(_functions(compile(source, "<mutated>", "exec", dont_inherit=True)))


def live_functions(module: ModuleType) -> Mapping[str, FunctionType]:
    """Return the functions of a loaded module of which there is one object each, by name."""
    found: dict[str, list[FunctionType]] = {}
    holders = [module, *(v for v in vars(module).values() if isinstance(v, type))]
    for holder in holders:
        if holder is not module and holder.__module__ != module.__name__:
            continue
        for value in vars(holder).values():
            function = _unwrapped(value)
            if function is not None and function.__code__.co_filename == module.__file__:
                same = found.setdefault(function.__code__.co_qualname, [])
                if function not in same:
                    same.append(function)
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def _unwrapped(value: object) -> FunctionType | None:
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if callable(value):
        value = inspect.unwrap(value)
    return value if isinstance(value, FunctionType) else None


def _functions(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & inspect.CO_OPTIMIZED:
                yield part.co_qualname, part
            else:
                yield from _functions(part)


def _outline(code: CodeType) -> tuple[object, ...]:
    """Spell what an import executes, the functions that it makes apart."""
    return _spelled(code, functions=False)


def _spelled(code: CodeType, *, functions: bool = True) -> tuple[object, ...]:
    """Spell code without the lines that it stands on."""
    return (
        code.co_qualname,
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_exceptiontable,
        tuple(
            (
                _spelled(part, functions=functions)
                if functions or not part.co_flags & inspect.CO_OPTIMIZED
                else part.co_qualname
            )
            if isinstance(part, CodeType)
            else (type(part).__name__, repr(part))
            for part in code.co_consts
        ),
    )
