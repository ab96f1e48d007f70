"""The ways in which a line can be wrong: each yields one changed copy of a module.

Deliberately absent: changes to types, docstrings and texts, which no test should have to notice.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARD_ORDER: Final = "guard order"
"""Two questions asked in the other order, or one not asked: what gate order is about."""

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed module: which operator, where, and what its source became.

    `statement` is the line of the innermost statement that holds the change: a test that does not
    come there cannot notice it.
    """

    operator: str
    line: int
    statement: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.operator}: {self.before} -> {self.after}"


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module's source, in the order of its lines for each operator."""
    tree = _untyped(source)
    nodes = list(ast.walk(tree))
    statement_of = _statements(tree)
    skipped = _decorators(tree)
    for index, node in enumerate(nodes):
        if node in skipped:
            continue
        for operator, change in _changes(node):
            # The copy is walked in the same order, so that the same index is the same node.
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[index]
            before, line = _short(node), getattr(node, "lineno", 0)
            holds = statement_of[node]
            change(target)
            ast.fix_missing_locations(changed)
            after = _short(target)
            if isinstance(change, _Remove | _Swap):
                statement = getattr(node, change.block)[change.position]
                before, line, holds = _short(statement), statement.lineno, statement.lineno
                after = "nothing" if isinstance(change, _Remove) else "after the next question"
            yield Mutant(operator, line, holds, before, after, ast.unparse(changed))


def unchanged(source: str) -> str:
    """Return a module's source as its mutants are spelled, without a change."""
    return ast.unparse(_untyped(source))


def _untyped(source: str) -> ast.Module:
    tree = ast.parse(source)
    _drop_types(tree)
    return tree


def _statements(tree: ast.AST) -> dict[ast.AST, int]:
    """Return for each node the line of the innermost statement that holds it."""
    lines: dict[ast.AST, int] = {tree: 0}
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            lines[child] = child.lineno if isinstance(child, ast.stmt) else lines[node]
    return lines


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _drop_types(tree: ast.AST) -> None:
    """Take out what only a type checker reads, so that it is not mutated."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs):
                argument.annotation = None


def _decorators(tree: ast.AST) -> set[ast.AST]:
    """Return what stands in decorators: how a class is made, which no line of a rule depends on."""
    return {
        part
        for node in ast.walk(tree)
        for decorator in getattr(node, "decorator_list", ())
        for part in ast.walk(decorator)
    }


def _changes(node: ast.AST) -> Iterator[tuple[str, _Change]]:
    yield from _operator_changes(node)
    yield from _value_changes(node)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield from _block_changes(node, name, block)


def _operator_changes(node: ast.AST) -> Iterator[tuple[str, _Change]]:
    if isinstance(node, ast.Compare):
        for position, comparison in enumerate(node.ops):
            for other in _COMPARISONS.get(type(comparison), ()):
                yield "comparison", _Comparison(position, other)
    elif isinstance(node, ast.BoolOp):
        yield "boolean", _swap_boolean
        for position in range(len(node.values)):
            yield "operand dropped", _Drop(position)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "boolean", _drop_not
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield "arithmetic", _swap_arithmetic


def _value_changes(node: ast.AST) -> Iterator[tuple[str, _Change]]:
    if isinstance(node, ast.Constant) and type(node.value) in {bool, int}:
        yield "constant", _other_constant
    elif isinstance(node, ast.Return) and node.value is not None:
        # What is false already says the same to whoever asks.
        if not (isinstance(node.value, ast.Constant) and not node.value.value):
            yield "return", _return_none
    elif isinstance(node, ast.If | ast.IfExp):
        if not _is_for_types(node) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            yield "condition", _negate
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        yield "arguments swapped", _swap_arguments


def _block_changes(
    node: ast.AST, name: str, block: list[ast.stmt]
) -> Iterator[tuple[str, _Change]]:
    if isinstance(node, ast.Module):
        return
    for position, statement in enumerate(block):
        if _is_guard(statement):
            yield GUARD_ORDER, _Remove(name, position)
            if position + 1 < len(block) and _is_guard(block[position + 1]):
                yield GUARD_ORDER, _Swap(name, position)
        elif _is_removable(statement):
            yield "statement removed", _Remove(name, position)


def _is_for_types(node: ast.If | ast.IfExp) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_guard(statement: ast.stmt) -> bool:
    """Say whether a statement asks a question and ends the function by the answer."""
    return (
        isinstance(statement, ast.If)
        and not statement.orelse
        and isinstance(statement.body[-1], ast.Return | ast.Raise)
    )


def _is_removable(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    return isinstance(statement, ast.Raise | ast.AugAssign | ast.Continue | ast.Break) or (
        isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript)
    )


@dataclass(frozen=True, slots=True)
class _Comparison:
    position: int
    other: type[ast.cmpop]

    def __call__(self, node: ast.AST) -> None:
        assert isinstance(node, ast.Compare)
        node.ops[self.position] = self.other()


@dataclass(frozen=True, slots=True)
class _Drop:
    position: int

    def __call__(self, node: ast.AST) -> None:
        assert isinstance(node, ast.BoolOp)
        del node.values[self.position]
        if len(node.values) == 1:
            # What one value is, `and` and `or` with itself are as well.
            node.values.append(node.values[0])


@dataclass(frozen=True, slots=True)
class _Remove:
    block: str
    position: int

    def __call__(self, node: ast.AST) -> None:
        getattr(node, self.block)[self.position] = ast.Pass()


@dataclass(frozen=True, slots=True)
class _Swap:
    block: str
    position: int

    def __call__(self, node: ast.AST) -> None:
        statements = getattr(node, self.block)
        first, second = self.position, self.position + 1
        statements[first], statements[second] = statements[second], statements[first]


def _swap_boolean(node: ast.AST) -> None:
    assert isinstance(node, ast.BoolOp)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()


def _drop_not(node: ast.AST) -> None:
    # Two negations are none.
    assert isinstance(node, ast.UnaryOp)
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def _swap_arithmetic(node: ast.AST) -> None:
    assert isinstance(node, ast.BinOp)
    node.op = _ARITHMETIC[type(node.op)]()


def _other_constant(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    node.value = not node.value if isinstance(node.value, bool) else int(node.value) + 1  # type: ignore[arg-type]  # asked by type before


def _return_none(node: ast.AST) -> None:
    assert isinstance(node, ast.Return)
    node.value = ast.Constant(None)


def _negate(node: ast.AST) -> None:
    assert isinstance(node, ast.If | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _swap_arguments(node: ast.AST) -> None:
    assert isinstance(node, ast.Call)
    node.args[0], node.args[1] = node.args[1], node.args[0]


if TYPE_CHECKING:
    from collections.abc import Callable

    _Change = Callable[[ast.AST], None]
