"""Programs written by hand, shortly: literals and tensor statements from numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.program import Literal, Program, Ref, Statement, contiguous_strides
from refgrad._dtypes import BY_NAME


def literal(
    values: Any, dtype: str = "float32", shape: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None, offset: int = 0
) -> Literal:
    """A literal of these values; with ``shape`` they are its memory, in order."""
    array = np.array(values, BY_NAME[dtype].np)
    shape = array.shape if shape is None else shape
    return Literal(dtype, shape, contiguous_strides(shape) if strides is None else strides, offset, array.tobytes())


def tensor(name: str, values: Any, requires_grad: bool = False, dtype: str = "float32", **layout: Any) -> Statement:
    kwargs = (("requires_grad", True),) if requires_grad else ()
    return Statement("tensor", "", (literal(values, dtype, **layout),), kwargs, (name,))


def leaf(name: str, values: Any, dtype: str = "float32", **layout: Any) -> Statement:
    return tensor(name, values, True, dtype, **layout)


def do(kind: str, op: str = "", *args: Any, out: str | tuple[str, ...] = (), **kwargs: Any) -> Statement:
    """A statement; an argument that is a text which names something bound is written ``"@t0"``."""
    outs = (out,) if isinstance(out, str) else out
    return Statement(kind, op, tuple(map(_atom, args)), tuple((k, _atom(v)) for k, v in kwargs.items()), outs)


def _atom(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        return Ref(value[1:])
    return tuple(map(_atom, value)) if isinstance(value, (tuple, list)) else value


def write(*statements: Statement, hooked: bool = True) -> Program:
    """The program; it must be well-formed."""
    program = Program(statements, hooked)
    assert program.problems() == []
    return program
