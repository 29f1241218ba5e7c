"""Sorting: among equal elements any order is right, so what the subject chose is taken over where it is one of the right ones."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from conformance.program import Statement
from refgrad._table import TABLE
from refgrad._tensor import make

#: ops that sort without promising to be stable
SORTS = frozenset(("sort", "argsort", "topk", "msort"))


def tied(judge: Any, statement: Statement) -> bool:
    """Whether this statement sorts equal elements in an order of the subject's choice."""
    if statement.op not in SORTS or statement.keyword("stable"):
        return False
    values = judge.values[next(statement.refs())]
    return bool(np.unique(values).size != values.size)


def follow(judge: Any, statement: Statement, outs: tuple[Any, ...], leaf: Any) -> tuple[Any, ...] | None:
    """The outs as the subject's order gives them, and with them its gradient; None where that order shows nowhere (msort).

    An order that does not sort, or that repeats an index, is not taken over: what the reference chose is then what is judged by.
    """
    if statement.op == "msort":
        return None
    chosen = judge.new_values.get(statement.out[-1])
    if chosen is None or chosen.shape != outs[-1]._data.shape or not leaf._data.ndim:
        return outs
    dim = _dim(statement) % leaf._data.ndim
    right = np.take_along_axis(leaf._data, outs[-1]._data, dim)
    if not _sorts(leaf._data, chosen, dim, right):
        return outs
    indices = make(chosen.copy())
    return (indices,) if len(outs) == 1 else (TABLE["gather"].public(leaf, dim, indices), indices)


def _dim(statement: Statement) -> int:
    bound = inspect.signature(TABLE[statement.op].python).bind(*statement.args, **dict(statement.kwargs))
    bound.apply_defaults()
    return int(bound.arguments["dim"])


def _sorts(values: np.ndarray, chosen: np.ndarray, dim: int, right: np.ndarray) -> bool:
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < values.shape[dim]):
        return False
    ordered = np.sort(chosen, axis=dim)
    if (np.diff(ordered, axis=dim) == 0).any():
        return False
    return bool(np.array_equal(np.take_along_axis(values, chosen, dim), right, equal_nan=values.dtype.kind == "f"))
