"""Reductions over all elements or over dims."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import no_kernel
from refgrad._dtypes import BOOL, F32, F64, FLOAT
from refgrad._errors import declare, error
from refgrad._exact import own_radius
from refgrad._grad_mode import GRAD, MODE
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor

declare("not_implemented_dtype", NotImplementedError, "\"{kernel}\" not implemented for '{dtype}'")
declare("autograd_dtype", RuntimeError, "Autograd not support dtype: {dtype}")
declare(
    "mean_dtype",
    RuntimeError,
    "mean(): could not infer output dtype. {which} dtype must be either a floating point or complex dtype. Got: {dtype}",
)

#: numpy's reductions, whose annotations do not know a ``keepdims`` that is a variable
add_reduce: Any = np.add.reduce
multiply_reduce: Any = np.multiply.reduce
maximum_reduce: Any = np.maximum.reduce


class _Dims(type):
    def __instancecheck__(cls, value: object) -> bool:
        return value is None or (isinstance(value, (int, tuple, list)) and not isinstance(value, bool))


class DIMS(metaclass=_Dims):
    """What ``dim`` may be where a list of dims, or None for all, is taken: an overload takes no bool for a dim."""


class _Dim(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)


class DIM(metaclass=_Dim):
    """What ``dim`` may be where one dim is taken."""


# --- dims ------------------------------------------------------------------------------------------------------------------------


def normal_dims(dim, ndim: int) -> tuple[int, ...]:
    """``dim`` as a tuple of non-negative dims; None and () stand for all. Raises torch's errors for one out of range or given twice."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        return tuple(range(ndim))
    out: list[int] = []
    for d in dims:
        low, high = (-ndim, ndim - 1) if ndim else (-1, 0)
        if not low <= d <= high:
            raise error("dim_range", low=low, high=high, dim=d)
        d = d + max(ndim, 1) if d < 0 else d
        if d in out:
            raise error("dim_twice", dim=d)
        out.append(d)
    return tuple(out) if ndim else ()


def reduced_count(shape: tuple[int, ...], dim) -> int:
    """How many elements go into one element of the result."""
    return math.prod([shape[d] for d in normal_dims(dim, len(shape))])


def restore(reduced, ndim: int, dim, keepdim: bool):
    """The result of a reduction, or its gradient, with the reduced dims put back at size 1."""
    if not keepdim and ndim:
        for d in sorted(normal_dims(dim, ndim)):
            reduced = reduced.unsqueeze(d)
    return reduced


def expand_reduced(grad, shape: tuple[int, ...], dim, keepdim: bool):
    """The gradient of a sum: the incoming gradient at every summed element."""
    return restore(grad, len(shape), dim, keepdim).expand(shape)


def contiguous(array: Any) -> Any:
    """numpy lays a reduction out like its input; torch's results are contiguous."""
    return array if array.flags.c_contiguous else array.copy()


# --- allowances ------------------------------------------------------------------------------------------------------------------


def sum_ulps(n: int) -> float:
    """Roundings on the longest path of a sum of n: any order makes at most n - 1; torch's cascade (four levels of at least 16, per vector
    lane) makes fewer for large n (ATen/native/cpu/SumKernel.cpp; GPU kernels use trees)."""
    return float(min(max(n - 1, 1), 4 * 2 ** max(4, math.ceil(math.log2(max(n, 2)) / 4)) + 32))


def rounding(k: float, scale: Any, result: Any, nominal: _dtypes.dtype) -> Any:
    """``k`` roundings of values as large as ``scale``: in float32 for 16-bit dtypes, which round the result once more."""
    if nominal.itemsize > 2:
        return own_radius(k, scale, nominal)
    return own_radius(k, scale, _dtypes.float32) + own_radius(1.0, result, nominal)


def plus(own: Any, carried: Any) -> Any:
    return own if carried is None else own + carried


# --- sum, mean -------------------------------------------------------------------------------------------------------------------


def sum_dtype(nominal: _dtypes.dtype, bound: tuple[Any, ...]) -> _dtypes.dtype:
    """``dtype=`` where given, int64 for what is no float. Raises torch's error for an integer result that would have a history."""
    given = _dtypes.as_dtype(bound[-1])
    if given is None:
        return nominal if nominal.category == FLOAT else _dtypes.int64
    if given.category != FLOAT and isinstance(bound[0], Tensor) and bound[0].requires_grad and MODE.mode == GRAD:
        raise error("autograd_dtype", dtype=given.scalar_type)
    return given


def _mean_dtype(nominal: _dtypes.dtype, bound: tuple[Any, ...]) -> _dtypes.dtype:
    given = _dtypes.as_dtype(bound[-1])
    if (given or nominal).category != FLOAT:
        raise error("mean_dtype", which="Input" if given is None else "Optional", dtype=(given or nominal).scalar_type)
    return given or nominal


_SUM_REASON = "order of summation, relative to the sum of magnitudes"


@op(
    result_dtype=sum_dtype,
    error="linear",
    accumulates=True,
    ulps=lambda input, dtype: sum_ulps(input.size),
    reason=_SUM_REASON,
    vjp=dict(input=lambda grad, input_shape: grad.expand(input_shape)),
)
def sum_(input, *, dtype=None):
    return add_reduce(input, None)


@op(
    name="sum",
    node="1",
    result_dtype=sum_dtype,
    error="linear",
    accumulates=True,
    types=dict(dim=DIMS),
    reason=_SUM_REASON,
    ulps=lambda input, dim, keepdim, dtype: sum_ulps(reduced_count(input.shape, dim)),
    vjp=dict(input=lambda grad, input_shape, dim, keepdim: expand_reduced(grad, input_shape, dim, keepdim)),
)
def _sum_dims(input, dim, keepdim=False, *, dtype=None):
    return contiguous(add_reduce(input, axis=normal_dims(dim, input.ndim), keepdims=keepdim))


def _mean(input: np.ndarray, dim, keepdim: bool) -> Any:
    total = add_reduce(input, axis=normal_dims(dim, input.ndim), keepdims=keepdim)
    return contiguous(total / total.dtype.type(reduced_count(input.shape, dim)))


def _share(grad: Any, shape: tuple[int, ...]) -> Any:
    """Its share of ``grad`` for each element. Where nothing is recorded nobody sees the expanded gradient, so none is made."""
    data, count = grad._data, math.prod(shape)
    if MODE.mode == GRAD or grad.__class__ is not Tensor or not (data.dtype is F32 or data.dtype is F64):
        return grad.expand(shape) / count
    share = Tensor.__new__(Tensor)
    share._data = np.empty(shape, data.dtype)
    share._data.fill(data / data.dtype.type(count) if count else 0)
    share._inference = MODE.inference
    return share


@op(
    result_dtype=_mean_dtype,
    error="linear",
    accumulates=True,
    reason=_SUM_REASON + "; one division",
    ulps=lambda input, dtype: sum_ulps(input.size) + 1.0,
    vjp=dict(input=lambda grad, input_shape: _share(grad, input_shape)),
)
def mean(input, *, dtype=None):
    return add_reduce(input, None) / input.dtype.type(input.size)


@op(
    name="mean",
    node="1",
    result_dtype=_mean_dtype,
    error="linear",
    accumulates=True,
    types=dict(dim=DIMS),
    reason=_SUM_REASON + "; one division",
    ulps=lambda input, dim, keepdim, dtype: sum_ulps(reduced_count(input.shape, dim)) + 1.0,
    vjp=dict(
        input=lambda grad, input_shape, dim, keepdim: expand_reduced(grad, input_shape, dim, keepdim) / reduced_count(input_shape, dim)
    ),
)
def _mean_dims(input, dim, keepdim=False, *, dtype=None):
    return _mean(input, dim, keepdim)


@op(
    result_dtype=sum_dtype,
    iterates=False,
    types=dict(dim=DIMS),
    reason=_SUM_REASON,
    radius=lambda values, radii, results, nominal: _nansum_radius(values, radii[0], nominal),
    vjp=dict(input=lambda grad, input, dim, keepdim: expand_reduced(grad, input.shape, dim, keepdim).masked_fill(input.isnan(), 0)),
)
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    return contiguous(add_reduce(_without_nan(input), axis=normal_dims(dim, input.ndim), keepdims=keepdim))


def _without_nan(array: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(array), array.dtype.type(0), array) if array.dtype.kind == "f" else array


def _nansum_radius(values: list[Any], radius: Any, nominal: _dtypes.dtype) -> Any:
    input, dim, keepdim, _ = values
    axis = normal_dims(dim, input.ndim)
    magnitude = add_reduce(np.abs(_without_nan(input)), axis=axis, keepdims=keepdim)
    own = rounding(sum_ulps(reduced_count(input.shape, dim)), magnitude, magnitude, nominal)
    return plus(own, None if radius is None else add_reduce(np.where(np.isnan(input), 0, radius), axis=axis, keepdims=keepdim))


# --- prod ------------------------------------------------------------------------------------------------------------------------


def prod_radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    """One rounding a factor, of the dtype itself for 16 bits too. A partial product may underflow, and the rest then magnify that error;
    or overflow, and then nothing is known."""
    input, dim, keepdim = (*values, None, False)[:3] if len(values) > 2 else (values[0], None, False)
    axis = normal_dims(dim, input.ndim)

    def multiply(a: Any) -> Any:
        return multiply_reduce(a, axis=axis, keepdims=keepdim)

    magnitude, largest = np.abs(input), multiply(np.maximum(np.abs(input), 1))
    count = reduced_count(input.shape, dim)
    own = own_radius(count, multiply(magnitude), nominal) + count * nominal.eta * largest
    own = np.where((largest > nominal.largest) & np.isfinite(results[0]), np.inf, own)
    return plus(own, None if radii[0] is None else multiply(magnitude + radii[0]) - multiply(magnitude))


def _times_others(grad: Any, input: Any, dim: int) -> Any:
    """For each element the product of the others along ``dim``, without a division, so that zeros are right to every order; times ``grad``,
    which is passed on as it is where there are no others.
    """
    size = input._data.shape[dim]
    if size == 1:
        return grad
    one = TABLE["ones_like"].public(input.narrow(dim, 0, 1).detach())
    cat = TABLE["cat"].public
    before = cat([one, input.narrow(dim, 0, size - 1)], dim).cumprod(dim)
    after = cat([one, input.narrow(dim, 1, size - 1).flip(dim)], dim).cumprod(dim).flip(dim)
    return grad * (before * after)


def _prod_all_vjp(grad: Any, input: Any, result: Any) -> Any:
    input = input.to(grad.dtype)
    if input._data.ndim == 0:
        return grad.clone()
    if (input._data != 0).all():
        return grad * (result / input)
    return _times_others(grad, input.reshape(-1), 0).view(input._data.shape)


def _prod_dim_vjp(grad: Any, input: Any, result: Any, dim: int, keepdim: bool) -> Any:
    input = input.to(grad.dtype)
    if input._data.ndim == 0:
        return grad.clone()
    dim = normal_dims(dim, input._data.ndim)[0]
    grad, result = (restore(t, input._data.ndim, dim, keepdim) for t in (grad, result))
    if (input._data != 0).all():
        return grad * (result / input)
    return _times_others(grad, input, dim)


_PROD_REASON = "one rounding a factor, in any order"


@op(result_dtype=sum_dtype, iterates=False, radius=prod_radius, reason=_PROD_REASON, vjp=dict(input=_prod_all_vjp))
def prod(input, *, dtype=None):
    return multiply_reduce(input, axis=None)


@op(
    name="prod",
    node="1",
    result_dtype=sum_dtype,
    iterates=False,
    radius=prod_radius,
    reason=_PROD_REASON,
    types=dict(dim=DIM),
    vjp=dict(input=_prod_dim_vjp),
)
def _prod_dim(input, dim, keepdim=False, *, dtype=None):
    return contiguous(multiply_reduce(input, axis=normal_dims(dim, input.ndim), keepdims=keepdim))


# --- var, std --------------------------------------------------------------------------------------------------------------------

declare("var_dtype", RuntimeError, "std and var only support floating point and complex dtypes")
declare("var_mean_dtype", RuntimeError, "{name} only support floating point and complex dtypes")


def _var_dtype(nominal: _dtypes.dtype, bound: tuple[Any, ...]) -> _dtypes.dtype:
    if nominal.category != FLOAT:
        raise error("var_dtype")
    return nominal


def _freedom(shape: tuple[int, ...], dim: Any, correction: Any) -> float:
    return max(0.0, reduced_count(shape, dim) - (1 if correction is None else correction))


def _var(name: str, input: np.ndarray, dim: Any, correction: Any, keepdim: bool) -> tuple[Any, Any]:
    """Variance and mean; warns as torch does where there are no degrees of freedom."""
    axis = normal_dims(dim, input.ndim)
    freedom = _freedom(input.shape, dim, correction)
    if freedom <= 0:
        warnings.warn(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor (input numel divided by "
            "output numel).",
            UserWarning,
            stacklevel=6,
        )
    mean = add_reduce(input, axis=axis, keepdims=True) / input.dtype.type(reduced_count(input.shape, dim))
    squares = add_reduce((input - mean) ** 2, axis=axis, keepdims=keepdim)
    return contiguous(squares / input.dtype.type(freedom)), contiguous(mean if keepdim else mean.reshape(np.shape(squares)))


def _chain(count: int, nominal: _dtypes.dtype) -> int:
    """How many elements one running mean takes in. float64 kernels take all of them, one after the other; narrower dtypes only into
    accumulators in float64, and otherwise in runs as short as those of a sum, whose results are merged.
    """
    return count if nominal.itemsize > 4 else min(count, int(sum_ulps(count)) + 1)


@cache
def _welford(n: int) -> tuple[float, float]:
    """(roundings of a running variance of n elements, roundings that its condition number κ magnifies), to first order.

    With dₖ = xₖ - μₖ₋₁, the sum of squared deviations is M = Σ dₖ²·(k-1)/k, whatever the order. Rounding the k-th mean errs by u·|μₖ|, and
    k·|μₖ| is at most √k·‖x‖, so the means err by ηₖ <= u·‖x‖·(Σ √j)/k, and by 2u·Σ|dⱼ|/k for the quotient that is added. M errs by
    Σ |dₖ|·(ηₖ₋₁ + ηₖ), which Cauchy's inequality bounds by √M·√(Σ (ηₖ₋₁ + ηₖ)²·k/(k-1)); by six roundings of each square and by one for
    each addition but the first.
    """
    if n < 2:
        return 0.0, 0.0
    k = np.arange(2, n + 1)
    weight = k / (k - 1)

    def carried(means: np.ndarray) -> float:
        return math.sqrt(float(np.sum((means + np.append(0, means[:-1])) ** 2 * weight)))

    return n - 2 + 6 + carried(2 * np.sqrt(np.cumsum(weight)) / k), carried(np.cumsum(np.sqrt(k)) / k)


def _var_radius(values: list[Any], radii: list[Any], result: Any, nominal: _dtypes.dtype) -> Any:
    """κ² = ‖x‖² / M (Chan, Golub, LeVeque 1983). A mean that is rounded before the squares are summed adds n times its error's square."""
    input, dim, correction, keepdim = values
    axis, count, freedom = normal_dims(dim, input.ndim), reduced_count(input.shape, dim), _freedom(input.shape, dim, correction)
    if freedom <= 0:
        return np.zeros(np.shape(result))
    mean = add_reduce(input, axis=axis, keepdims=True) / max(count, 1)
    square = add_reduce(mean * mean, axis=axis, keepdims=keepdim) * (count / freedom) + result  # ‖x‖² / freedom
    n = _chain(count, nominal)
    own, magnified = _welford(n)
    scale = (own + 1) * result + magnified * np.sqrt(result * square)  # the last rounding is the division
    unit = nominal.unit if nominal.itemsize > 2 else _dtypes.float32.unit
    bound = rounding(n, scale / max(n, 1), result, nominal) + ((n if n > 1 else 0) * unit) ** 2 * square
    if radii[0] is None:
        return bound
    radius = np.broadcast_to(radii[0], input.shape)
    spread = 2 * np.abs(input - mean) + radius
    return bound + add_reduce(spread * radius, axis=axis, keepdims=keepdim) / freedom


def _root_radius(variance: Any, radius: Any, nominal: _dtypes.dtype) -> Any:
    """A standard deviation's radius from its variance's."""
    root = np.sqrt(variance)
    return radius / np.maximum(root + np.sqrt(np.maximum(variance - radius, 0)), np.sqrt(radius) + 1e-300) + own_radius(1.0, root, nominal)


def _mean_radius(values: list[Any], radii: list[Any], result: Any, nominal: _dtypes.dtype) -> Any:
    input, dim, _, keepdim = values
    axis, count = normal_dims(dim, input.ndim), max(reduced_count(input.shape, dim), 1)
    own = rounding(_mean_ulps(_chain(count, nominal)), add_reduce(np.abs(input), axis=axis, keepdims=keepdim) / count, result, nominal)
    return plus(own, None if radii[0] is None else add_reduce(np.broadcast_to(radii[0], input.shape), axis=axis, keepdims=keepdim) / count)


def _mean_ulps(n: int) -> float:
    """Of a running mean, relative to the mean of magnitudes: n - 1 sums, of which the k-th weighs k / n; and two roundings of each
    |xₖ - μₖ₋₁| / n that is added, which together are at most 1 + Σ 1/k as large.
    """
    return n - 1 + 2 * (2 + math.log(n - 1)) if n > 1 else 1.0


def _var_vjp(grad: Any, input: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
    shape = input._data.shape
    freedom = _freedom(shape, dim, correction)
    if freedom <= 0 and (dim is None or not shape):
        input = input.detach()  # 0 / 0 or x / 0, whatever x: no function of it
    mean = TABLE["mean"].public(input, dim, True)
    return (2.0 / freedom if freedom else math.inf) * restore(grad, len(shape), dim, keepdim) * (input - mean)


def _std_vjp(grad: Any, result: Any, input: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
    zero = result == 0
    halved = grad.masked_fill(zero, 0) / (result * 2).masked_fill(zero, 1)
    return _var_vjp(halved, input, dim, correction, keepdim)


def _mean_vjp(grad: Any, input: Any, dim: Any, keepdim: bool) -> Any:
    shape = input._data.shape
    return expand_reduced(grad, shape, dim, keepdim) / reduced_count(shape, dim)


def _both(first: Any, second: Any) -> Any:
    return second if first is None else first if second is None else first + second


_VAR_REASON = "a running mean and variance; what the means round is magnified by the condition number (Chan, Golub, LeVeque 1983)"


@op(
    result_dtype=_var_dtype,
    iterates=False,
    types=dict(dim=DIMS, correction=(int, float, type(None))),
    reason=_VAR_REASON,
    radius=lambda values, radii, results, nominal: _var_radius(values, radii, results[0], nominal),
    vjp=dict(input=lambda grad, input, dim, correction, keepdim: _var_vjp(grad, input, dim, correction, keepdim)),
)
def var(input, dim=None, *, correction=1, keepdim=False):
    return _var("var", input, dim, correction, keepdim)[0]


def _std_radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    variance = results[0] ** 2
    return _root_radius(variance, _var_radius(values, radii, variance, nominal), nominal)


@op(
    result_dtype=_var_dtype,
    iterates=False,
    types=dict(dim=DIMS, correction=(int, float, type(None))),
    reason=_VAR_REASON + ", and a square root",
    radius=_std_radius,
    vjp=dict(input=lambda grad, input, dim, correction, keepdim, result: _std_vjp(grad, result, input, dim, correction, keepdim)),
)
def std(input, dim=None, *, correction=1, keepdim=False):
    return np.sqrt(_var("std", input, dim, correction, keepdim)[0])


def _moments_dtype(name: str) -> Any:
    def check(nominal: _dtypes.dtype, bound: tuple[Any, ...]) -> _dtypes.dtype:
        if nominal.category != FLOAT:
            raise error("var_mean_dtype", name=name)
        return nominal

    return check


def _var_mean_vjp(grad_var: Any, grad_mean: Any, input: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
    return _both(
        None if grad_var is None else _var_vjp(grad_var, input, dim, correction, keepdim),
        None if grad_mean is None else _mean_vjp(grad_mean, input, dim, keepdim),
    )


@op(
    result_dtype=_moments_dtype("var_mean"),
    outputs=("var", "mean"),
    named_outputs=False,
    iterates=False,
    method=False,
    types=dict(dim=DIMS, correction=(int, float, type(None))),
    radius=lambda values, radii, results, nominal: [
        _var_radius(values, radii, results[0], nominal),
        _mean_radius(values, radii, results[1], nominal),
    ],
    reason=_VAR_REASON,
    vjp=dict(input=_var_mean_vjp),
)
def var_mean(input, dim=None, *, correction=1, keepdim=False):
    return _var("var_mean", input, dim, correction, keepdim)


def _std_mean_vjp(grad_std: Any, grad_mean: Any, input: Any, dim: Any, correction: Any, keepdim: bool, std: Any) -> Any:
    return _both(
        None if grad_std is None else _std_vjp(grad_std, std, input, dim, correction, keepdim),
        None if grad_mean is None else _mean_vjp(grad_mean, input, dim, keepdim),
    )


@op(
    result_dtype=_moments_dtype("std_mean"),
    outputs=("std", "mean"),
    named_outputs=False,
    iterates=False,
    method=False,
    types=dict(dim=DIMS, correction=(int, float, type(None))),
    radius=lambda values, radii, results, nominal: [
        _std_radius(values, radii, results, nominal),
        _mean_radius(values, radii, results[1], nominal),
    ],
    reason=_VAR_REASON,
    vjp=dict(input=_std_mean_vjp),
)
def std_mean(input, dim=None, *, correction=1, keepdim=False):
    variance, mean = _var("std_mean", input, dim, correction, keepdim)
    return np.sqrt(variance), mean


def _declare_unbiased(name: str) -> None:
    """The older overloads, where ``unbiased`` stands for a correction of 1 or 0."""
    base, method = TABLE[name].python, TABLE[name].method

    @op(name=name, composite=True, method=method, types=dict(unbiased=bool))
    def unbiased_all(input, unbiased):
        return base(input, None, correction=int(unbiased))

    @op(name=name, composite=True, method=method, types=dict(dim=DIMS, unbiased=bool))
    def unbiased_dims(input, dim, unbiased, keepdim=False):
        return base(input, dim, correction=int(unbiased), keepdim=keepdim)


for _name in ("var", "std", "var_mean", "std_mean"):
    _declare_unbiased(_name)


# --- the largest and the smallest --------------------------------------------------------------------------------------------------

declare(
    "reduce_empty",
    RuntimeError,
    "{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument.",
)
declare("arg_empty", IndexError, "{name}(): Expected reduction dim to be specified for input.numel() == 0.")
declare("arg_bool", RuntimeError, "{name}(): does not support bool input")


def _nonempty_dims(name: str, input: np.ndarray, dim: Any, key: str = "reduce_empty") -> tuple[int, ...]:
    """The reduced dims, none of which may be empty, since there is no largest of nothing."""
    dims = normal_dims(dim, input.ndim)
    if input.size == 0:
        if dim is None or dim == () or dim == []:
            raise error(key, name=name)
        given = (dim,) if isinstance(dim, int) else dim
        for place, d in enumerate(dims):
            if input.shape[d] == 0:  # amax and amin name the dim as it was given
                raise error("dim_empty_reduce", name=name, dim=given[place] if name in ("amax", "amin") else d)
    return dims


def _extreme(ufunc: Any, name: str, input: np.ndarray, dim: Any, keepdim: bool) -> Any:
    return contiguous(np.asarray(ufunc.reduce(input, axis=_nonempty_dims(name, input, dim), keepdims=keepdim)))


def _widest(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    """The largest of perturbed values moves by at most the largest perturbation."""
    input, dim, keepdim = (*values[:3], None, False)[:3] if len(values) > 2 else (values[0], None, False)
    if radii[0] is None:
        return [None] * len(results)
    radius = maximum_reduce(np.broadcast_to(radii[0], input.shape), axis=normal_dims(dim, input.ndim), keepdims=keepdim)
    return [radius, None][: len(results)]


def _evenly(grad: Any, mask: Any, dim: Any) -> Any:
    """``grad`` shared among the elements where ``mask`` holds; nan where it holds nowhere, which happens for nan."""
    count = TABLE["sum"].public(mask, dim, True)
    return grad.expand(mask._data.shape).masked_fill(mask.logical_not(), 0) / count


def _amax_vjp(grad: Any, input: Any, result: Any, dim: Any, keepdim: bool) -> Any:
    ndim = input._data.ndim
    mask = restore(result, ndim, dim, keepdim).detach() == input.detach()
    return _evenly(restore(grad, ndim, dim, keepdim), mask, dim)


def _max_vjp(grad: Any, input: Any, result: Any) -> Any:
    fixed, value = input.detach(), result.detach()
    return _evenly(grad, fixed.isnan() if np.isnan(value._data) else fixed == value, None)


def _picked_vjp(grad_values: Any, indices: Any, input_shape: tuple[int, ...], dim: int, keepdim: bool) -> Any:
    """The gradient at the selected elements, zero elsewhere."""
    if grad_values is None:
        return None
    ndim = len(input_shape)
    grad, index = restore(grad_values, ndim, dim, keepdim), restore(indices, ndim, dim, keepdim)
    return grad.new_zeros(input_shape).scatter(dim, index, grad)


@op(promote="none", radius=_widest, types=dict(dim=DIMS), vjp=dict(input=_amax_vjp))
def amax(input, dim=(), keepdim=False):
    return _extreme(np.maximum, "amax", input, dim, keepdim)


@op(promote="none", radius=_widest, types=dict(dim=DIMS), vjp=dict(input=_amax_vjp))
def amin(input, dim=(), keepdim=False):
    return _extreme(np.minimum, "amin", input, dim, keepdim)


@op(promote="none", node="1", radius=_widest, vjp=dict(input=_max_vjp))
def max_(input):
    return _extreme(np.maximum, "max", input, None, False)


@op(promote="none", node="1", radius=_widest, vjp=dict(input=_max_vjp))
def min_(input):
    return _extreme(np.minimum, "min", input, None, False)


def _arg(function: Any, input: np.ndarray, dim: int, keepdim: bool) -> np.ndarray:
    """Where along ``dim`` the first extreme stands; the first nan is every extreme."""
    if input.ndim == 0:
        return np.zeros((), np.int64)
    comparable = input.astype(np.float32) if input.dtype is _dtypes.BF16 else input
    return contiguous(np.asarray(function(comparable, axis=dim, keepdims=keepdim), dtype=np.int64))


def _extreme_and_place(name: str, function: Any, input: np.ndarray, dim: int, keepdim: bool) -> tuple[np.ndarray, np.ndarray]:
    dims = _nonempty_dims(name, input, dim)
    if not dims:
        return input.copy(), np.zeros((), np.int64)
    place = _arg(function, input, dims[0], True)
    values = np.take_along_axis(input, place, dims[0])
    return (values, place) if keepdim else (contiguous(values.squeeze(dims[0])), contiguous(place.squeeze(dims[0])))


@op(
    name="max",
    promote="none",
    outputs=("values", "indices"),
    nondifferentiable=("indices",),
    radius=_widest,
    types=dict(dim=DIM),
    vjp=dict(input=_picked_vjp),
)
def _max_dim(input, dim, keepdim=False):
    return _extreme_and_place("max", np.argmax, input, dim, keepdim)


@op(
    name="min",
    promote="none",
    outputs=("values", "indices"),
    nondifferentiable=("indices",),
    radius=_widest,
    types=dict(dim=DIM),
    vjp=dict(input=_picked_vjp),
)
def _min_dim(input, dim, keepdim=False):
    return _extreme_and_place("min", np.argmin, input, dim, keepdim)


@op(name="max", composite=True, tensor_only=("other",))
def _max_other(input, other):
    return TABLE["maximum"].public(input, other)


@op(name="min", composite=True, tensor_only=("other",))
def _min_other(input, other):
    return TABLE["minimum"].public(input, other)


def _arg_all(name: str, function: Any, input: np.ndarray, dim: Any, keepdim: bool) -> np.ndarray:
    if input.dtype.kind == "b":
        raise error("arg_bool", name=name)
    dims = _nonempty_dims(name, input, dim, "arg_empty")
    if dim is not None:
        return _arg(function, input, dims[0] if dims else 0, keepdim)
    place = _arg(function, input.reshape(-1), 0, False)
    return place.reshape((1,) * input.ndim) if keepdim else place


@op(promote="none", types=dict(dim=DIMS))
def argmax(input, dim=None, keepdim=False):
    return _arg_all("argmax", np.argmax, input, dim, keepdim)


@op(promote="none", types=dict(dim=DIMS))
def argmin(input, dim=None, keepdim=False):
    return _arg_all("argmin", np.argmin, input, dim, keepdim)


# --- norm ------------------------------------------------------------------------------------------------------------------------

declare("norm_input", RuntimeError, "linalg.vector_norm: Expected a floating point or complex tensor as input. Got {dtype}")
declare("norm_dtype", RuntimeError, "linalg.vector_norm: dtype should be floating point or complex, but got {dtype}")
declare(
    "norm_narrows",
    RuntimeError,
    "linalg.vector_norm: the dtype of the input ({input}) should be convertible without narrowing to the specified dtype ({dtype})",
)
declare(
    "norm_empty",
    RuntimeError,
    "linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the operation does not have an identity",
)
declare(
    "norm_empty_dim",
    RuntimeError,
    "linalg.vector_norm cannot compute the {ord} norm on the dimension {dim}because this dimension is empty and the operation does not "
    "have an identity",
)


def _norm_dtype(nominal: _dtypes.dtype, bound: tuple[Any, ...]) -> _dtypes.dtype:
    if nominal.category != FLOAT:
        raise error("norm_input", dtype=nominal.scalar_type)
    given = _dtypes.as_dtype(bound[-1])
    if given is None:
        return nominal
    if given.category != FLOAT:
        raise error("norm_dtype", dtype=given.scalar_type)
    if _dtypes.promote_types(nominal, given) is not given:
        raise error("norm_narrows", input=nominal.scalar_type, dtype=given.scalar_type)
    return given


def _power_sum(input: np.ndarray, p: float, axis: Any, keepdim: bool) -> Any:
    return add_reduce(np.abs(input) ** p, axis=axis, keepdims=keepdim)


def _norm(input: np.ndarray, p: float, axis: Any, keepdim: bool) -> Any:
    if p == 0:
        return add_reduce((input != 0).astype(input.dtype), axis=axis, keepdims=keepdim)
    if math.isinf(p):
        extreme: Any = np.maximum if p > 0 else np.minimum
        return extreme.reduce(np.abs(input), axis=axis, keepdims=keepdim)
    if p == 1:
        return add_reduce(np.abs(input), axis=axis, keepdims=keepdim)
    total = _power_sum(input, p, axis, keepdim)
    return np.sqrt(total) if p == 2 else total ** (1 / input.dtype.type(p))


def _check_norm_empty(input: np.ndarray, p: float, dim: Any, dims: tuple[int, ...]) -> None:
    if input.size or (p >= 0 and not math.isinf(p)):
        return
    if dim is None or dim == () or dim == []:
        raise error("norm_empty", ord=f"{p:g}")
    for d in dims:
        if input.shape[d] == 0:
            raise error("norm_empty_dim", ord=f"{p:g}", dim=d)


def _norm_radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    """n roundings of a sum of powers, divided by p by the root. A sum of powers beyond the range is documented to overflow (PyTorch's note
    on numerical accuracy, section on extremal values)."""
    input, p, dim, keepdim, _ = values
    axis, result = normal_dims(dim, input.ndim), results[0]
    own: Any = 0.0
    if p and not math.isinf(p):
        count = reduced_count(input.shape, dim)
        powers = _power_sum(input, p, axis, keepdim)
        own = rounding((sum_ulps(count) + 4) / min(abs(p), 1.0) + 4, result, result, nominal)
        reach = _dtypes.float32 if nominal.itemsize == 2 else nominal
        least = (count * reach.eta / reach.unit) if p != 1 else 0.0
        own = np.where(((powers > reach.largest) & np.isfinite(result)) | ((powers < least) & (result > 0)), np.inf, own)
    if radii[0] is None or p == 0:
        return own
    radius = np.broadcast_to(radii[0], input.shape)
    if math.isinf(p):
        return own + maximum_reduce(radius, axis=axis, keepdims=keepdim)
    if p >= 1:  # a norm: no further than the norm of the perturbation
        return own + _norm(radius, p, axis, keepdim)
    return own + np.abs(_norm(np.abs(input) + radius, p, axis, keepdim) - result)


def _norm_vjp(grad: Any, input: Any, ord: float, result: Any, dim: Any, keepdim: bool) -> Any:
    """The subgradient of least norm where the norm has no derivative: 0 at an origin, evenly among equals for the infinite norms."""
    if ord == 0:
        return None
    input = input.to(grad.dtype)
    grad, norm = (restore(t, input._data.ndim, dim, keepdim) for t in (grad, result))
    if ord == 1:
        return input.sgn() * grad
    if math.isinf(ord):
        size = input.abs()
        mask = (size.detach() == norm.detach()).logical_or(size.detach().isnan())
        return input.sgn() * _evenly(grad, mask, dim)
    zero = norm == 0
    if ord == 2:
        return grad * (input / norm.masked_fill(zero, 1)).masked_fill(zero, 0)
    return _norm_power_vjp(grad, input, ord, norm, zero)


def _norm_power_vjp(grad: Any, input: Any, ord: float, norm: Any, zero: Any) -> Any:
    origin = input == 0
    if ord < 2:
        powers = input.sgn() * input.abs().masked_fill(origin, 1).pow(ord - 1).masked_fill(origin, 0)
    else:
        powers = input * (input.abs() if ord == 3 else input.abs().pow(ord - 2))
    scale = grad.masked_fill(zero, 0) * norm.masked_fill(zero, 1).pow(1 - ord).masked_fill(zero, 0)
    return powers * scale


@op(
    result_dtype=_norm_dtype,
    iterates=False,
    method=False,
    function=False,
    types=dict(ord=(int, float), dim=DIMS),
    radius=_norm_radius,
    reason="order of summation, powers within 2 ulp, divided by the exponent",
    vjp=dict(input=_norm_vjp),
)
def linalg_vector_norm(input, ord=2, dim=None, keepdim=False, *, dtype=None):
    dims = normal_dims(dim, input.ndim)
    _check_norm_empty(input, ord, dim, dims)
    return contiguous(np.asarray(_norm(input, float(ord), dims, keepdim)))


@op(name="vector_norm", where="linalg", composite=True)
def _vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    if isinstance(ord, str) or ord is None:
        raise TypeError(f"linalg_vector_norm(): argument 'ord' (position 2) must be Number, not {type(ord).__name__}")
    return linalg_vector_norm(x, ord, dim, keepdim, dtype=dtype)


@op(composite=True)
def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """The vector p-norm of all elements, or over dims. The nuclear norm is not covered."""
    if p == "nuc":
        raise NotImplementedError("refgrad has no nuclear norm; use linalg.vector_norm or p='fro'")
    return linalg_vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


# --- logsumexp -------------------------------------------------------------------------------------------------------------------


def _logsumexp_radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    """Every step rounds to the dtype: distances to the largest (weighted by softmax), exp (2 ulp), the sum, log (2 ulp), the last sum."""
    input, dim, keepdim = values
    axis, result = normal_dims(dim, input.ndim), results[0]
    largest = maximum_reduce(input, axis=axis, keepdims=True, initial=-np.inf)
    distance = np.where(np.isfinite(input) & np.isfinite(largest), largest - input, 0)
    weights = np.exp(-distance)
    total = add_reduce(weights, axis=axis, keepdims=True)
    spread = add_reduce(weights * distance, axis=axis, keepdims=True) / np.maximum(total, 1) + 2 * np.log(np.maximum(total, 1))
    spread = spread if keepdim else spread.squeeze(axis)
    finite = np.isfinite(result)
    accumulated = nominal if nominal.itemsize > 2 else _dtypes.float32
    own = own_radius(1.0, np.where(finite, spread + 5 + np.abs(result), 0), nominal)
    own = own + own_radius(sum_ulps(reduced_count(input.shape, dim)), np.where(finite, 1, 0), accumulated)
    if radii[0] is None:
        return own
    return own + maximum_reduce(np.broadcast_to(radii[0], input.shape), axis=axis, keepdims=keepdim, initial=0.0)


@op(
    promote="float",
    iterates=False,
    radius=_logsumexp_radius,
    types=dict(dim=DIMS),
    reason="order of summation, 2 ulp each for exp and log, and a rounding of every distance to the largest",
    vjp=dict(
        input=lambda grad, input, dim, keepdim, result: (
            restore(grad, input._data.ndim, dim, keepdim) * (input - restore(result, input._data.ndim, dim, keepdim)).exp()
        )
    ),
)
def logsumexp(input, dim, keepdim=False):
    axis = normal_dims(dim, input.ndim)
    largest = maximum_reduce(input, axis=axis, keepdims=True, initial=-np.inf)
    largest = np.where(np.isinf(largest), input.dtype.type(0), largest)
    total = np.log(add_reduce(np.exp(input - largest), axis=axis, keepdims=True)) + largest
    return contiguous(total if keepdim else total.squeeze(axis))


# --- yes or no -------------------------------------------------------------------------------------------------------------------


def _truth(ufunc: Any, input: np.ndarray, dim: Any, keepdim: bool) -> np.ndarray:
    """Unlike elsewhere, no dims mean no reduction. uint8 in gives uint8."""
    nothing = isinstance(dim, (tuple, list)) and not dim
    axis = () if nothing else normal_dims(dim, input.ndim)
    made = contiguous(np.asarray(ufunc.reduce(input != 0, axis=axis, keepdims=keepdim)))
    return made.astype(np.uint8) if input.dtype == np.uint8 else made


@op(promote="none", types=dict(dim=DIMS))
def all_(input, dim=None, keepdim=False):
    return _truth(np.logical_and, input, dim, keepdim)


@op(promote="none", types=dict(dim=DIMS))
def any_(input, dim=None, keepdim=False):
    return _truth(np.logical_or, input, dim, keepdim)


@op(promote="none", types=dict(dim=DIMS))
def count_nonzero(input, dim=None):
    return contiguous(np.asarray(add_reduce(input != 0, axis=normal_dims(dim, input.ndim), dtype=np.int64)))


# --- running sums and products -----------------------------------------------------------------------------------------------------


def _along(function: Any, input: np.ndarray, dim: int) -> np.ndarray:
    dims = normal_dims(dim, input.ndim)
    if not dims:
        return input.copy()
    return contiguous(function.accumulate(input, axis=dims[0], dtype=input.dtype))


def _dim_size(array: np.ndarray, dim: int) -> int:
    dims = normal_dims(dim, array.ndim)
    return array.shape[dims[0]] if dims else 1


def _cumsum_vjp(grad: Any, dim: int) -> Any:
    if grad._data.size <= 1 or _dim_size(grad._data, dim) == 1:
        return grad
    return grad.flip(dim).cumsum(dim).flip(dim)


def _running_dtype(kernel: str) -> Any:
    def result_dtype(nominal: _dtypes.dtype, bound: tuple[Any, ...]) -> _dtypes.dtype:
        if _dtypes.as_dtype(bound[-1]) is _dtypes.bool_:
            raise error("not_implemented_dtype", kernel=kernel, dtype="Bool")
        return sum_dtype(nominal, bound)

    return result_dtype


@op(
    result_dtype=_running_dtype("cumsum_out_cpu"),
    inplace_refuses=no_kernel("cumsum_out_cpu", BOOL),
    arguments_first=True,
    inplace=True,
    error="linear",
    accumulates=True,
    types=dict(dim=DIM),
    reason="n - 1 additions, one after the other: every partial sum is a result (ATen/native/cpu/ReduceOpsKernel.cpp, cumsum_cpu_kernel)",
    ulps=lambda input, dim, dtype: float(max(_dim_size(input, dim) - 1, 1)),
    vjp=dict(input=lambda grad, dim: _cumsum_vjp(grad, dim)),
)
def cumsum(input, dim, *, dtype=None):
    return _along(np.add, input, dim)


def _cumprod_vjp(grad: Any, input: Any, dim: int, result: Any) -> Any:
    grad, size = grad.to(input.dtype), _dim_size(input._data, dim)
    if input._data.size <= 1 or size == 1:
        return grad
    if (input._data != 0).all():
        return _cumsum_vjp(result * grad, dim) / input
    return TABLE["cat"].public([_cumprod_vjp_at(i, grad, input, dim, size) for i in range(size)], dim)


def _cumprod_vjp_at(i: int, grad: Any, input: Any, dim: int, size: int) -> Any:
    """Element ``i``'s derivative without a division: the factors before it, times what comes of those after it."""
    one = TABLE["ones_like"].public(input.narrow(dim, 0, 1).detach())
    before = input.narrow(dim, 0, i).prod(dim, True)
    after = TABLE["cat"].public([one, input.narrow(dim, i + 1, size - i - 1)], dim).cumprod(dim)
    return before * (grad.narrow(dim, i, size - i) * after).sum(dim, True)


def _cumprod_radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    input, dim, _ = values
    magnitude, largest = _along(np.multiply, np.abs(input), dim), _along(np.multiply, np.maximum(np.abs(input), 1), dim)
    count = _dim_size(input, dim)
    own = rounding(count, magnitude, magnitude, nominal) + count * nominal.eta * largest
    return plus(own, None if radii[0] is None else _along(np.multiply, np.abs(input) + radii[0], dim) - magnitude)


@op(
    result_dtype=_running_dtype("cumprod_out_cpu"),
    inplace_refuses=no_kernel("cumprod_out_cpu", BOOL),
    arguments_first=True,
    iterates=False,
    inplace=True,
    types=dict(dim=DIM),
    reason=_PROD_REASON,
    radius=_cumprod_radius,
    vjp=dict(input=_cumprod_vjp),
)
def cumprod(input, dim, *, dtype=None):
    return _along(np.multiply, input, dim)
