"""What every other family stands on: copying, converting, writing, and undoing broadcasts."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import broadcast_shapes
from refgrad._dtypes import FLOAT, narrow
from refgrad._errors import declare, error
from refgrad._exact import own_radius
from refgrad._ops.creation import scalar_for
from refgrad._storage import is_dense, laid_out
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor, device

declare("fill_value_dims", RuntimeError, "fill_ only supports 0-dimension value tensor but got tensor with {ndim} dimensions.")

# --- clone, to ---------------------------------------------------------------------------------------------------------------


@op(promote="none", vjp=dict(input=lambda grad: grad))
def clone(input):
    return input.copy(order="K") if is_dense(input) else laid_out(input.copy(), [input])


@op(name="_to_copy", promote="none", method=False, function=False, vjp=dict(input=lambda grad, input_dtype: to(grad, input_dtype)),
    exact=lambda input, dtype: _cast_ball(input, dtype))  # fmt: skip
def _to_copy(input, dtype):
    narrower = (
        input.dtype.kind == "f" and input.dtype.itemsize >= dtype.itemsize and dtype.category == FLOAT and input.dtype is not dtype.np
    )
    result = narrow(input, dtype.np) if narrower else input.astype(dtype.np)
    return result if input.flags.c_contiguous else laid_out(result, [input])


def _cast_ball(input: Tensor, dtype: _dtypes.dtype) -> tuple[np.ndarray, Any, _dtypes.dtype]:
    """A ball of another nominal dtype: its centre as it is, its radius wider by one rounding where the cast rounds."""
    if dtype.category != FLOAT:
        return input._data.astype(dtype.np), None, dtype
    centre, radius = input._data.astype(dtype.wide), input._exact[1]
    rounds = own_radius(1.0, centre, dtype) if dtype.unit > input.dtype.unit or dtype.eta > input.dtype.eta else None
    if rounds is not None and radius is None:
        rounds = np.where(narrow(centre, dtype.np).astype(dtype.wide) == centre, 0.0, rounds)
    return centre, rounds if radius is None else radius if rounds is None else radius + rounds, dtype


@op(composite=True, promote="none", function=False, tensors=("input",))
def to(input: Tensor, *args: Any, dtype: Any = None, copy: bool = False, **other: Any) -> Tensor:
    """``Tensor.to``: to a dtype, a device (the CPU) or like another tensor. Itself, where nothing changes and no copy is asked for."""
    for a in args:
        if isinstance(a, str):
            device(a)
        elif isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, _dtypes.dtype) or a in (float, int, bool):
            dtype = a
    if other.get("device") is not None:
        device(other["device"])
    dtype = _dtypes.as_dtype(dtype) or input.dtype
    if dtype is input.dtype:
        return TABLE["clone"].public(input) if copy else input
    return _to_copy(input, dtype)


# --- writing ------------------------------------------------------------------------------------------------------------------


@op(name="copy", promote="none", method=False, function=False, inplace=True, node="s",
    vjp=dict(input=lambda grad: TABLE["zeros_like"].public(grad), source=lambda grad: grad))  # fmt: skip
def _copy(input, source):
    shape = broadcast_shapes(input.shape, np.shape(source))
    if shape != input.shape:
        raise error("inplace_broadcast", output=list(input.shape), broadcast=list(shape))
    return np.broadcast_to(source, input.shape)


@op(
    name="zero",
    promote="none",
    checks_overlap=False,
    method=False,
    function=False,
    inplace=True,
    vjp=dict(input=lambda grad: TABLE["zeros_like"].public(grad)),
)
def _zero(input):
    return np.zeros(input.shape, input.dtype)


@op(name="fill", promote="none", checks_overlap=False, inplace=True, method=False, number_only=("value_tensor",), inplace_node="2",
    error="elementwise", ulps=1.0, reason="the number is rounded to the dtype",
    vjp=dict(input=lambda grad: TABLE["zeros_like"].public(grad)))  # fmt: skip
def fill(input, value_tensor):
    return laid_out(np.full_like(input, scalar_for(input, value_tensor)), [input])


def _check_fill(input, value_tensor):
    if value_tensor._data.ndim:
        raise error("fill_value_dims", ndim=value_tensor._data.ndim)


@op(name="fill", promote="none", inplace=True, method=False, node="1", inplace_node="3", tensor_only=("value_tensor",), check=_check_fill,
    vjp=dict(input=lambda grad: TABLE["zeros_like"].public(grad), value_tensor=lambda grad: grad.sum()))  # fmt: skip
def _fill_tensor(input, value_tensor):
    return laid_out(np.full_like(input, value_tensor.astype(input.dtype)), [input])


# --- undoing broadcasts ---------------------------------------------------------------------------------------------------------


def _summed_axes(shape: tuple[int, ...], to_shape: tuple[int, ...]) -> tuple[int, ...]:
    extra = len(shape) - len(to_shape)
    return (*range(extra), *(extra + i for i, n in enumerate(to_shape) if n == 1 and shape[extra + i] != 1))


@op(composite=True, promote="none", function=False, tensors=("input",))
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Sums over the dims that broadcasting ``size`` to the input's shape had added or stretched."""
    shape = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    axes = _summed_axes(input._data.shape, shape)
    if not axes:
        return input
    kept = TABLE["sum"].public(input, axes, True)
    return kept if kept._data.shape == shape else TABLE["view"].public(kept, shape)
