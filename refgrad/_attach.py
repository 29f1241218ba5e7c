"""Derives the public names from the table: functions where torch has them, methods, in-place forms, operators."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from refgrad._dtypes import ALIASES, bfloat16, bool_, dtype, int8, uint8
from refgrad._errors import error
from refgrad._table import TABLE, compile_operator
from refgrad._tensor import Tensor

#: symbol -> (method, reflected method, in-place method) of Python's data model
OPERATORS = {
    "+": ("__add__", "__radd__", "__iadd__"),
    "-": ("__sub__", "", "__isub__"),
    "*": ("__mul__", "__rmul__", "__imul__"),
    "/": ("__truediv__", "", "__itruediv__"),
    "//": ("__floordiv__", "", "__ifloordiv__"),
    "%": ("__mod__", "", "__imod__"),
    "**": ("__pow__", "", "__ipow__"),
    "@": ("__matmul__", "", ""),
    "&": ("__and__", "__rand__", "__iand__"),
    "|": ("__or__", "__ror__", "__ior__"),
    "^": ("__xor__", "__rxor__", "__ixor__"),
    "<<": ("__lshift__", "", "__ilshift__"),
    ">>": ("__rshift__", "", "__irshift__"),
    "==": ("__eq__", "", ""),
    "!=": ("__ne__", "", ""),
    "<": ("__lt__", "", ""),
    "<=": ("__le__", "", ""),
    ">": ("__gt__", "", ""),
    ">=": ("__ge__", "", ""),
    "neg": ("__neg__", "", ""),
    "~": ("__invert__", "", ""),
    "abs": ("__abs__", "", ""),
}


#: methods that are named after the dtype they cast to
CASTS = {**ALIASES, "bfloat16": bfloat16, "bool": bool_, "char": int8, "byte": uint8}


def _operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as a binary operator: what it cannot take is left to the other operand."""

    def operate(self: Tensor, other: Any) -> Any:
        if other.__class__ is Tensor or isinstance(other, (Tensor, int, float)):
            return function(self, other)
        return NotImplemented

    return operate


def attach_methods() -> None:
    for name, entry in TABLE.items():
        if entry.method and not name.startswith("_"):
            setattr(Tensor, name, entry.public)
        if entry.inplace_public is not None:
            setattr(Tensor, name + "_", entry.inplace_public)
        if entry.symbol:
            _attach_operator(entry)
    _attach_reflected()
    for name, kind in CASTS.items():
        setattr(Tensor, name, _cast(name, kind))


def _cast(name: str, kind: dtype) -> Callable[[Tensor], Tensor]:
    """``x.float()`` and its like: ``x.to`` with the dtype in the name."""

    def cast(self: Tensor) -> Any:
        return TABLE["to"].public(self, kind)

    cast.__name__ = name
    return cast


def _attach_operator(entry: Any) -> None:
    forward, reflected, inplace = OPERATORS[entry.symbol]
    unary = forward in ("__neg__", "__invert__", "__abs__")
    function = entry.public if unary else compile_operator(entry, _operator(entry.public))
    setattr(Tensor, forward, function)
    if reflected:
        setattr(Tensor, reflected, function)
    if inplace and entry.inplace_public is not None:
        setattr(Tensor, inplace, entry.inplace_public)


def _attach_reflected() -> None:
    """``number - x`` and its like are ops of their own in torch."""
    reflected: dict[str, Callable[[Tensor, Any], Any]] = {
        "__rsub__": lambda self, other: TABLE["rsub"].public(self, other),
        "__rtruediv__": lambda self, other: self.reciprocal() * other,  # type: ignore[attr-defined]
        "__rpow__": lambda self, other: TABLE["pow"].public(other, self),
        "__rfloordiv__": lambda self, other: TABLE["floor_divide"].public(other, self),
        "__rlshift__": lambda self, other: TABLE["bitwise_left_shift"].public(other, self),
        "__rrshift__": lambda self, other: TABLE["bitwise_right_shift"].public(other, self),
        "__rmod__": lambda self, other: TABLE["remainder"].public(other, self),
    }
    for name, function in reflected.items():
        setattr(Tensor, name, _operator(function))


def attach_functions(module: ModuleType, where: str) -> None:
    """Every op that torch has in ``where`` (``""``, ``nn.functional``, ``linalg``, ``special``), by its name in ``module``."""
    for name, entry in TABLE.items():
        if (entry.where == where or where in entry.also) and entry.function and not name.startswith("_"):
            setattr(module, name, entry.public)


def missing(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__``: one line for a name that refgrad lacks."""

    def lacks(name: str) -> Any:
        raise AttributeError(f"refgrad has no {module}{name}; what it covers: python -m conformance ops")

    return lacks


__all__ = ["attach_functions", "attach_methods", "error", "missing"]
