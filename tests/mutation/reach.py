"""Note which statements of a module a test comes to: a mutant elsewhere is none of its affair."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REACHED: Final = "__reached__"
"""The name under which the module's noted source finds whom to tell the line of a statement."""


def noted(source: str) -> str:
    """Return a module's source in which each statement of a function says that it is reached."""
    tree = ast.parse(source)
    for function in _functions(tree):
        _note(function)
    return ast.unparse(ast.fix_missing_locations(tree))


def _functions(holder: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for statement in holder.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement
        elif isinstance(statement, ast.ClassDef):
            yield from _functions(statement)


def _note(node: ast.AST) -> None:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            for statement in block:
                _note(statement)
            setattr(node, name, [part for each in block for part in (_call(each.lineno), each)])
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        _note(part)


def _call(line: int) -> ast.stmt:
    return ast.Expr(ast.Call(ast.Name(REACHED, ast.Load()), [ast.Constant(line)], []))
