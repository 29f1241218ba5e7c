"""Comparisons, and what chooses by them: where, clamp."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import no_kernel
from refgrad._dtypes import BOOL
from refgrad._errors import declare, error
from refgrad._ops.binary import fits
from refgrad._ops.unary import SELECTION
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor

declare("where_condition", RuntimeError, "where expected condition to be a boolean tensor, but got a tensor with dtype {dtype}")
declare("clamp_none", RuntimeError, "torch.clamp: At least one of 'min' or 'max' must not be None")


def _zeros(grad):
    return TABLE["zeros_like"].public(grad)


def _overlap(arguments, radii):
    """Where balls touch. What is equal without an error stays so: a difference of numbers is 0 only where they are equal."""
    reach = sum(r for r in radii if r is not None)
    return (np.abs(arguments[0] - arguments[1]) <= reach) & (reach > 0)


#: a bool has no gradient; written in place into floats, a comparison has one that is zero
_TRUTH = {"promote": "bool", "inplace": True, "undecided": _overlap}
_NUMBER = {**_TRUTH, "number_only": ("other",), "vjp": {"input": _zeros}}
_TENSOR = {**_TRUTH, "tensor_only": ("input", "other"), "node": "1", "vjp": {"input": _zeros, "other": _zeros}}


def _comparison(symbol, name, compare):
    """Two overloads of one comparison: with a number, with a tensor."""
    for options in (_NUMBER, _TENSOR):
        public = op(name=name, symbol=symbol, **options)(compare)
    return public


def _eq(input, other):
    return np.equal(input, other)


def _ne(input, other):
    return np.not_equal(input, other)


def _lt(input, other):
    return np.less(input, other)


def _le(input, other):
    return np.less_equal(input, other)


def _gt(input, other):
    return np.greater(input, other)


def _ge(input, other):
    return np.greater_equal(input, other)


eq, ne, lt, le, gt, ge = (
    _comparison(symbol, name, compare)
    for symbol, name, compare in (
        ("==", "eq", _eq),
        ("!=", "ne", _ne),
        ("<", "lt", _lt),
        ("<=", "le", _le),
        (">", "gt", _gt),
        (">=", "ge", _ge),
    )
)


@op(composite=True)
def equal(input, other):
    if input._data.shape != other._data.shape:
        return False
    return bool(np.all((input == other)._data))


# --- where ------------------------------------------------------------------------------------------------------------


def _check_condition(condition: Any, input: Any, other: Any) -> None:
    if condition.dtype.category != BOOL and condition.dtype is not _dtypes.uint8:
        raise error("where_condition", dtype=condition.dtype.scalar_type)


@op(
    **SELECTION,
    method=False,
    tensors=("condition", "input", "other"),
    unpromoted=("condition",),
    tensor_only=("condition",),
    check=_check_condition,
    vjp=dict(input=lambda grad, condition: where(condition, grad, 0), other=lambda grad, condition: where(condition, 0, grad)),
)
def where(condition, input, other):
    return np.where(condition, input, other)


def _where_method(self: Any, condition: Any, other: Any) -> Any:
    return where(condition, self, other)


Tensor.where = _where_method  # type: ignore[attr-defined]

# --- clamp ------------------------------------------------------------------------------------------------------------

_BOUNDS = ("input", "min", "max")


def _clamp(input: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """The upper bound wins where bounds cross, NaN wins everywhere."""
    out = input if low is None else np.maximum(input, low)
    return out if high is None else np.minimum(out, high)


def _check_bounds(input: Any, min: Any = None, max: Any = None) -> None:
    if min is None and max is None:
        raise error("clamp_none")


def _bounds(kernel: str) -> Any:
    """For ``refuses``: bool has no kernel, and a number must fit."""
    lacks = no_kernel(kernel, BOOL)

    def refuse(nominal: _dtypes.dtype, values: list[Any]) -> None:
        lacks(nominal, values)
        for bound in values[1:]:
            fits(nominal, bound)

    return refuse


def _two_bounds(nominal: _dtypes.dtype, values: list[Any]) -> None:
    """With one bound torch takes maximum or minimum, which have a kernel for bool."""
    if None not in values:
        no_kernel("clamp_cpu", BOOL)(nominal, values)


def _inside(input, min, max):
    if min is None or max is None:
        return input >= min if max is None else input <= max
    return (input >= min).logical_and(input <= max)


def _clamp_min_vjp(grad, input, min, max):
    chosen = input < min
    if max is not None:
        chosen = chosen.logical_and(min < max)
    return where(chosen, grad, 0)


def _clamp_max_vjp(grad, input, min, max):
    chosen = input > max
    if min is not None:
        chosen = chosen.logical_or(max < min)
    return where(chosen, grad, 0)


_CLAMP = {**SELECTION, "inplace": True, "tensors": _BOUNDS, "check": _check_bounds}


@op(
    **_CLAMP,
    node="1",
    casts_first=True,
    number_only=("min", "max"),
    refuses=_bounds("clamp_scalar_cpu"),
    vjp=dict(input=lambda grad, input, min, max: where(_inside(input, min, max), grad, 0)),
)
def clamp(input, min=None, max=None):
    return _clamp(input, min, max)


@op(
    name="clamp",
    **_CLAMP,
    tensor_only=("min", "max"),
    refuses=_two_bounds,
    vjp=dict(
        input=lambda grad, input, min, max: where(_inside(input, min, max), grad, 0),
        min=lambda grad, input, min, max: None if min is None else _clamp_min_vjp(grad, input, min, max),
        max=lambda grad, input, min, max: None if max is None else _clamp_max_vjp(grad, input, min, max),
    ),
)
def _clamp_tensors(input, min=None, max=None):
    return _clamp(input, min, max)


@op(composite=True)
def clip(input, min=None, max=None):
    return clamp(input, min, max)


TABLE["clip"].inplace_public = lambda input, min=None, max=None: input.clamp_(min, max)

_CLAMP_MIN = {**SELECTION, "inplace": True, "tensors": ("input", "min")}
_CLAMP_MAX = {**SELECTION, "inplace": True, "tensors": ("input", "max")}


@op(
    **_CLAMP_MIN,
    casts_first=True,
    number_only=("min",),
    refuses=_bounds("clamp_min_scalar_cpu"),
    vjp=dict(input=lambda grad, input, min: where(input >= min, grad, 0)),
)
def clamp_min(input, min):
    return np.maximum(input, min)


@op(
    name="clamp_min",
    node="1",
    **_CLAMP_MIN,
    vjp=dict(input=lambda grad, input, min: where(input >= min, grad, 0), min=lambda grad, input, min: where(input < min, grad, 0)),
)
def _clamp_min_tensor(input, min):
    return np.maximum(input, min)


@op(
    **_CLAMP_MAX,
    casts_first=True,
    number_only=("max",),
    refuses=_bounds("clamp_max_scalar_cpu"),
    vjp=dict(input=lambda grad, input, max: where(input <= max, grad, 0)),
)
def clamp_max(input, max):
    return np.minimum(input, max)


@op(
    name="clamp_max",
    node="1",
    **_CLAMP_MAX,
    vjp=dict(input=lambda grad, input, max: where(input <= max, grad, 0), max=lambda grad, input, max: where(input > max, grad, 0)),
)
def _clamp_max_tensor(input, max):
    return np.minimum(input, max)


__all__ = ["clamp", "where"]
