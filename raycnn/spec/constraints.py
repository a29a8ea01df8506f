"""Constraints between parameters, such as `cutout.size_px * cutout.holes <= 32`: parsed, never run as Python.

Names are those of the space's parameters; of a choice of branches, the value is the branch's name. Allowed: numbers,
strings, + - * / **, comparisons (also chained), `and`, `or`, `not`, parentheses, `min`, `max`, `abs`. A constraint of
which some parameter is not there, as its branch was not taken, holds.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_LARGEST_POWER = 1000.0


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed constraint. names: of the parameters that it speaks of."""

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def holds(self, values: Mapping[str, Any]) -> bool:
        """values: of the parameters that a trial has. Raises ValueError where it cannot be worked out."""
        if not self.names <= values.keys():
            return True
        try:
            return bool(_value(self._tree, values))
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"{self.text}: cannot be worked out ({error})") from error


def parse(text: str) -> Constraint:
    """Raises ValueError, one line, for what is no such expression."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"is no expression ({reason})") from None
    names: set[str] = set()
    _check(tree, names, depth=0)
    if not names:
        raise ValueError("names no parameter")
    if not isinstance(tree, ast.Compare | ast.BoolOp) and not (
        isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    ):
        raise ValueError("compares nothing; write for example a <= b")
    return Constraint(text, frozenset(names), tree)


def _check(node: ast.expr, names: set[str], depth: int) -> None:
    """Raises ValueError for what is not allowed; adds to `names`."""
    if depth > 50:
        raise ValueError("is nested too deeply")
    parts: list[ast.expr] = []
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.Name() | ast.Attribute():
            names.add(_dotted(node))
        case ast.BinOp(left, kind, right) if type(kind) in _BINARY:
            parts = [left, right]
        case ast.UnaryOp(kind, operand) if type(kind) in _UNARY:
            parts = [operand]
        case ast.BoolOp(_, values):
            parts = values
        case ast.Compare(left, kinds, others) if all(type(kind) in _COMPARISONS for kind in kinds):
            parts = [left, *others]
        case ast.Call(ast.Name(name), arguments, []) if name in _FUNCTIONS and arguments:
            parts = arguments
        case _:
            raise ValueError(f"{ast.unparse(node)[:40]} is not allowed")
    for part in parts:
        _check(part, names, depth + 1)


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, name):
            return f"{_dotted(value)}.{name}"
    raise ValueError(f"{ast.unparse(node)[:40]} is not allowed")


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name() | ast.Attribute():
            return values[_dotted(node)]
        case ast.BinOp(left, kind, right):
            a, b = _value(left, values), _value(right, values)
            if isinstance(a, str) or isinstance(b, str):
                raise TypeError("a word is no number")
            if isinstance(kind, ast.Pow) and (abs(b) > _LARGEST_POWER or abs(a) > 1e100):
                raise OverflowError("the power is too large")
            return _BINARY[type(kind)](float(a), float(b))
        case ast.UnaryOp(kind, operand):
            return _UNARY[type(kind)](_value(operand, values))
        case ast.BoolOp(kind, parts):
            found = (bool(_value(part, values)) for part in parts)
            return all(found) if isinstance(kind, ast.And) else any(found)
        case ast.Compare(left, kinds, others):
            sides = [_value(side, values) for side in (left, *others)]
            pairs = zip(sides, kinds, sides[1:], strict=False)
            return all(_COMPARISONS[type(kind)](a, b) for a, kind, b in pairs)
        case ast.Call(ast.Name(name), arguments):
            return _FUNCTIONS[name](*(_value(argument, values) for argument in arguments))
    raise AssertionError(ast.dump(node))
