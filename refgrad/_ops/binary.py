"""Arithmetic with two operands, in every operator form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import broadcast_shapes, no_kernel
from refgrad._dtypes import BOOL, ELEMENT_NAMES, FLOAT, INT
from refgrad._errors import declare, error
from refgrad._exact import own_radius
from refgrad._ops.structure import to
from refgrad._ops.unary import SELECTION, _mul_number, masked, undecided_truth, vendor, where, zeros_like
from refgrad._ops.view import write_into
from refgrad._table import OVERLOADS, TABLE, op
from refgrad._tensor import Tensor

_SUB = "Subtraction, the `-` operator, with "
declare(
    "sub_bool",
    RuntimeError,
    _SUB + "a bool tensor is not supported. If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.",
)
declare("sub_two_bools", RuntimeError, _SUB + "two bool tensors is not supported. Use the `^` or `logical_xor()` operator instead.")
declare("zero_division", RuntimeError, "ZeroDivisionError", in_kernel=True)
declare("rounding_mode", RuntimeError, "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{mode}'")
declare("alpha_bool", RuntimeError, "Boolean alpha only supported for Boolean results.")
declare("alpha_float", RuntimeError, "For integral input tensors, argument alpha must not be a floating point number.")
declare("negative_power", RuntimeError, "Integers to negative integer powers are not allowed.")
declare("overflow", RuntimeError, "value cannot be converted to type {kind} without overflow", in_kernel=True)
declare("expected_dtype", RuntimeError, "expected dtype {input} for `{name}` but got dtype {found}")
declare(
    "addcdiv_integers",
    RuntimeError,
    "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a true division of "
    "tensor1 and tensor2. The historic addcdiv behavior can be implemented as (input + value * torch.trunc(tensor1 / "
    "tensor2)).to(input.dtype) for integer inputs and as (input + value * tensor1 / tensor2) for float inputs. The future "
    "addcdiv behavior is just the latter implementation: (input + value * tensor1 / tensor2), for all dtypes.",
)
declare("not_implemented", RuntimeError, "derivative for aten::{name} is not implemented")


def not_implemented(name: str, overload: int = 0) -> None:
    """Makes the entry's node the one that torch puts where it has no derivative: it stands in the graph and raises when reached."""
    node: Any = OVERLOADS[name][overload].node
    node.__name__ = "NotImplemented"
    node.name = lambda self: "torch::autograd::NotImplemented"
    node.apply = lambda self, grads: _raise_not_implemented(name)


def _raise_not_implemented(name: str) -> None:
    raise error("not_implemented", name=name)


def _is_bool(value: Any) -> bool:
    return value.dtype.category == BOOL if isinstance(value, Tensor) else isinstance(value, bool)


def _refuse_bools(nominal: _dtypes.dtype, values: list[Any]) -> None:
    bools = [_is_bool(v) for v in values]
    if all(bools):
        raise error("sub_two_bools")
    if any(bools):
        raise error("sub_bool")


# --- add, sub, rsub ---------------------------------------------------------------------------------------------------


def _alpha(alpha, array):
    """The factor as the operands' dtype holds it."""
    if alpha.__class__ is not int:
        _check_alpha(alpha, array.dtype)
    return np.asarray(alpha, array.dtype)


def _check_alpha(alpha: Any, dtype: np.dtype[Any]) -> None:
    if isinstance(alpha, bool) and dtype.kind != "b":
        raise error("alpha_bool")
    if isinstance(alpha, float) and dtype.kind in "iub":
        raise error("alpha_float")


def _sum_ulps(input, other, alpha):
    return 1.0 if alpha == 1 else 2.0


def _sum_scale(input, other, alpha):
    return input + other if alpha == 1 else np.abs(input) + np.abs(other * _alpha(alpha, other))


@op(
    direct=True,
    inplace=True,
    symbol="+",
    ulps=_sum_ulps,
    scale=_sum_scale,
    reason="one rounding of an IEEE sum; two where alpha scales first",
    vjp=dict(input=lambda grad: grad, other=lambda grad, alpha: grad if alpha == 1 else grad * alpha),
)
def add(input, other, *, alpha=1):
    return np.add(input, other) if alpha.__class__ is int and alpha == 1 else input + other * _alpha(alpha, other)


@op(
    direct=True,
    inplace=True,
    symbol="-",
    refuses=_refuse_bools,
    ulps=_sum_ulps,
    scale=lambda input, other, alpha: _sum_scale(input, -other, alpha),
    reason="one rounding of an IEEE difference; two where alpha scales first",
    vjp=dict(input=lambda grad: grad, other=lambda grad, alpha: -grad if alpha == 1 else grad * -alpha),
)
def sub(input, other, *, alpha=1):
    return np.subtract(input, other) if alpha.__class__ is int and alpha == 1 else input - other * _alpha(alpha, other)


@op(
    direct=True,
    method=False,
    node="1",
    number_only=("other",),
    refuses=_refuse_bools,
    ulps=_sum_ulps,
    scale=lambda input, other, alpha: _sum_scale(other, -input, alpha),
    reason="as sub",
    vjp=dict(input=lambda grad, alpha: -grad if alpha == 1 else grad * -alpha),
)
def rsub(input, other, *, alpha=1):
    return np.subtract(other, input) if alpha.__class__ is int and alpha == 1 else other - input * _alpha(alpha, input)


@op(
    name="rsub",
    direct=True,
    memory_order="last first",
    method=False,
    refuses=_refuse_bools,
    ulps=_sum_ulps,
    scale=lambda input, other, alpha: _sum_scale(other, -input, alpha),
    reason="as sub",
    vjp=dict(input=lambda grad, alpha: -grad if alpha == 1 else grad * -alpha, other=lambda grad: grad),
)
def _rsub_tensor(input, other, *, alpha=1):
    broadcast_shapes(other.shape, input.shape)
    return np.subtract(other, input) if alpha.__class__ is int and alpha == 1 else other - input * _alpha(alpha, input)


# --- mul, div ---------------------------------------------------------------------------------------------------------


@op(
    direct=True,
    inplace=True,
    symbol="*",
    reason="one rounding of an IEEE product",
    vjp=dict(input=lambda grad, other: grad * other, other=lambda grad, input: grad * input),
)
def mul(input, other):
    return np.multiply(input, other)


@op(
    promote="float",
    direct=True,
    inplace=True,
    symbol="/",
    ulps=2.0,
    reason="one rounding of an IEEE quotient; vendors multiply by a rounded reciprocal",
    vjp=dict(input=lambda grad, other: grad / other, other=lambda grad, input, other: -grad * ((input / other) / other)),
)
def div(input, other):
    return np.divide(input, other)


# --- division with rounding -------------------------------------------------------------------------------------------


def _divisors(kernel: str) -> Any:
    """For ``refuses``: bool has no kernel, and an integer divisor may hold no zero, nor a number that wraps around to one."""
    lacks = no_kernel(kernel, BOOL)

    def refuse(nominal: _dtypes.dtype, values: list[Any]) -> None:
        lacks(nominal, values)
        if nominal.category != INT:
            return
        input, other = (v._data if isinstance(v, Tensor) else np.asarray(v).astype(nominal.np) for v in values[:2])
        if input.size and other.size and not other.all():
            raise error("zero_division")

    return refuse


def _check_mode(input: Any, other: Any, rounding_mode: str) -> None:
    if rounding_mode not in ("trunc", "floor"):
        raise error("rounding_mode", mode=rounding_mode)


def floor_quotient(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Python's floor division; the quotient itself where the divisor is zero."""
    if input.dtype.kind != "f":
        return np.floor_divide(input, other)
    return np.where(other == 0, input / other, np.floor_divide(input, other))


def trunc_quotient(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    if input.dtype.kind == "f":
        return np.trunc(input / other)
    quotient = np.floor_divide(input, other)
    return quotient + ((quotient < 0) & (quotient * other != input)).astype(quotient.dtype)


def _step_radius(arguments: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
    """The quotient is rounded before it is floored: where it lies within that rounding of an integer, the result may be one off."""
    input, other = (np.asarray(a, np.float64) for a in arguments[:2])
    quotient = input / other
    slack = own_radius(2.0, quotient, nominal)
    for slope, radius in zip((1 / other, quotient / other), radii[:2], strict=True):
        slack = slack if radius is None else slack + np.abs(slope) * radius
    return (np.abs(quotient - np.rint(quotient)) <= slack) + own_radius(2.0, results[0], nominal)


_DIV = {"name": "div", "node": "2", "direct": True, "inplace": True}


@op(
    **_DIV,
    promote="float",
    types=dict(rounding_mode=type(None)),
    ulps=2.0,
    reason="as div",
    vjp=dict(input=lambda grad, other: grad / other, other=lambda grad, input, other: -grad * ((input / other) / other)),
)
def _div_unrounded(input, other, *, rounding_mode):
    return np.divide(input, other)


@op(
    **_DIV,
    types=dict(rounding_mode=str),
    check=_check_mode,
    radius=_step_radius,
    reason="the quotient is rounded before it is floored or truncated",
    vjp=dict(input=lambda grad, other: zeros_like(grad), other=lambda grad, input, other: zeros_like(grad)),
)
def _div_rounded(input, other, *, rounding_mode):
    np.broadcast_shapes(input.shape, other.shape)
    if other.dtype.kind != "f":  # found by the kernel, so after the shapes
        _divisors(f"div_{rounding_mode}_cpu")(_dtypes.OF[other.dtype], [input, other])
    return trunc_quotient(input, other) if rounding_mode == "trunc" else floor_quotient(input, other)


@op(
    name="_div_number",
    node="DivBackward1",
    function=False,
    method=False,
    promote="float",
    direct=True,
    tensors=("input",),
    scalars=("number",),
    ulps=2.0,
    reason="as div",
    vjp=dict(input=lambda grad, number: _div_number(grad, number)),
)
def _div_number(input, number):
    """Division by a number that is no operand of the program's but a formula's: nothing is saved."""
    return input / number


@op(composite=True)
def true_divide(input, other):
    return input / other


TABLE["true_divide"].inplace_public = lambda input, other: input.div_(other)


@op(
    direct=True,
    inplace=True,
    symbol="//",
    rounded=("input",),
    refuses=_divisors("div_floor_cpu"),
    radius=_step_radius,
    reason="the quotient is rounded before it is floored",
    vjp=dict(input=lambda grad: grad, other=lambda grad: grad),
)
def floor_divide(input, other):
    return floor_quotient(input, other)


not_implemented("floor_divide")


# --- remainders -------------------------------------------------------------------------------------------------------


def _python_remainder(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The remainder with the divisor's sign; a zero keeps the dividend's."""
    if input.dtype.kind != "f":
        return np.remainder(input, other)
    rest = np.fmod(input, other)
    return np.where((rest != 0) & ((other < 0) != (rest < 0)), rest + other, rest)


_FMOD = {
    "direct": True,
    "inplace": True,
    "refuses": _divisors("fmod_cpu"),
    "ulps": 0.0,
    "reason": "IEEE's remainder is exact; where an operand is not exact, the result jumps by a divisor",
    "radius": lambda arguments, radii, results, nominal: _jump_radius(arguments, radii, results, nominal, 0.0, np.trunc),
}
_REMAINDER = {
    "direct": True,
    "inplace": True,
    "refuses": _divisors("remainder_cpu"),
    "ulps": 1.0,
    "reason": "fmod is exact; adding the divisor rounds once; where an operand is not exact, the result jumps by a divisor",
    "radius": lambda arguments, radii, results, nominal: _jump_radius(arguments, radii, results, nominal, 1.0, np.floor),
}


def _jump_radius(
    arguments: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype, k: float, whole: Callable[..., Any]
) -> Any:
    """The remainder of balls: the divisor's radius as often as the divisor goes into the input, and a whole divisor where the quotient's
    ball holds an integer.
    """
    own = own_radius(k, results[0], nominal)
    if radii[0] is None and radii[1] is None:
        return own
    input, other = (np.asarray(a, np.float64) for a in arguments[:2])
    first, second = (0.0 if r is None else r for r in radii[:2])
    quotient = input / other
    jumps = np.abs(quotient - np.rint(quotient)) <= (first + np.abs(quotient) * second) / np.abs(other)
    return own + first + np.abs(whole(quotient)) * second + np.where(jumps, np.abs(other) + second, 0.0)


@op(**_FMOD, number_only=("other",), vjp=dict(input=lambda grad: grad))
def fmod(input, other):
    return np.fmod(input, other)


@op(
    name="fmod",
    node="1",
    **_FMOD,
    vjp=dict(input=lambda grad: grad, other=lambda grad, input, other: -grad * input.div(other, rounding_mode="trunc")),
)
def _fmod_tensor(input, other):
    return np.fmod(input, other)


@op(symbol="%", **_REMAINDER, number_only=("other",), vjp=dict(input=lambda grad: grad))
def remainder(input, other):
    return _python_remainder(input, other)


@op(name="remainder", **(_REMAINDER | {"inplace": False}), number_only=("input",), rounded=("input",), vjp=dict(other=lambda grad: grad))
def _remainder_of_number(input, other):
    return _python_remainder(input, other)


not_implemented("remainder", 1)


@op(
    name="remainder",
    node="1",
    **_REMAINDER,
    vjp=dict(input=lambda grad: grad, other=lambda grad, input, other: -grad * input.div(other, rounding_mode="floor")),
)
def _remainder_tensor(input, other):
    return _python_remainder(input, other)


# --- powers -----------------------------------------------------------------------------------------------------------


def _power(input: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    if input.dtype.kind == "f":
        rooted = (exponent == 0.5) & ((input == 0) | np.isneginf(input))  # of which numpy takes the square root: -0 and nan
        return np.power(np.where(rooted, np.abs(input), input), exponent)
    if input.dtype.kind == "b":
        return input | ~exponent
    raised = np.power(input, np.maximum(exponent, 0))
    if exponent.dtype.kind == "u":
        return raised
    odd_sign = np.where(exponent % 2 == 0, 1, input)
    inverse = np.where(input == 1, 1, np.where(input == -1, odd_sign, 0))
    return np.where(exponent < 0, inverse, raised).astype(input.dtype)


def fits(nominal: _dtypes.dtype, number: Any) -> None:
    """Raises torch's error for a number beyond the range of a dtype; infinity is in that of a float."""
    if nominal.category == INT and isinstance(number, int):
        limits = np.iinfo(nominal.np)
        low = limits.min if nominal.is_signed else -limits.max  # a negative number wraps around
        if not low <= number <= limits.max:
            raise error("overflow", kind=ELEMENT_NAMES[nominal.name])
    elif nominal.category == FLOAT and nominal.itemsize <= 4 and number is not None and nominal.largest < abs(number) < math.inf:
        raise error("overflow", kind=ELEMENT_NAMES[nominal.name])


def _refuse_exponent(nominal: _dtypes.dtype, values: list[Any]) -> None:
    exponent = values[1]
    if nominal.category == INT:
        fits(_dtypes.int64, max(exponent, 0))  # it is read as an int64 to see its sign
        if exponent < 0:
            raise error("negative_power")
    if nominal is not _dtypes.float32:  # whose kernel takes the exponent as a double
        fits(nominal, exponent)


_POW = {"inplace": True, **vendor(4)}


def _pow_input(grad, input, exponent):
    if isinstance(exponent, (int, float)):
        return zeros_like(grad) if exponent == 0 else grad * (exponent * input.pow(exponent - 1))
    at_zero = exponent == 0
    return where(at_zero, 0, where(at_zero, 0, grad) * where(at_zero, 0, exponent * input.pow(exponent - 1)))


def _pow_exponent(grad, input, exponent, result):
    """grad · result · log(input), where 0 raised to a power that is not negative has the slope 0."""
    if isinstance(input, (int, float)):
        if input != 0:
            return grad * (result * math.log(input) if input > 0 else result * math.nan)
        flat = exponent >= 0
        return grad * where(flat, 0, where(flat, 0, result) * -math.inf)
    flat = (input == 0).logical_and(exponent >= 0)
    base = to(where(flat, 1, input), result.dtype)
    return grad * where(flat, 0, result * base.log())


@op(
    symbol="**",
    **_POW,
    number_only=("exponent",),
    refuses=_refuse_exponent,
    vjp=dict(input=lambda grad, input, exponent: _pow_input(grad, input, exponent)),
)
def pow(input, exponent):
    return _power(input, exponent)


@op(
    name="pow",
    node="2",
    **(_POW | {"inplace": False}),
    number_only=("input",),
    iterates=False,
    refuses=no_kernel("pow", BOOL),
    vjp=dict(exponent=lambda grad, input, exponent, result: _pow_exponent(grad, input, exponent, result)),
)
def _pow_of_number(input, exponent):
    return np.asarray(_power(input, exponent), order="C")


@op(
    name="pow",
    node="1",
    **_POW,
    refuses=no_kernel("pow", BOOL),
    vjp=dict(
        input=lambda grad, input, exponent: _pow_input(grad, input, exponent),
        exponent=lambda grad, input, exponent, result: _pow_exponent(grad, input, exponent, result),
    ),
)
def _pow_tensor(input, exponent):
    return _power(input, exponent)


# --- hypot, atan2, logaddexp, xlogy, copysign -------------------------------------------------------------------------

_OTHER = {"tensor_only": ("other",)}


@op(
    inplace=True,
    **vendor(3),
    **_OTHER,
    refuses=no_kernel("hypot_cpu", BOOL, INT),
    vjp=dict(input=lambda grad, input, result: grad * input / result, other=lambda grad, other, result: grad * other / result),
)
def hypot(input, other):
    return np.hypot(input, other)


def _atan2_coefficient(input, other):
    square = input * input + other * other
    return where(square == 0, 0, where(square == 0, 1, square).reciprocal())


@op(
    promote="float",
    inplace=True,
    **vendor(3),
    **_OTHER,
    vjp=dict(
        input=lambda grad, input, other: grad * other * _atan2_coefficient(input, other),
        other=lambda grad, input, other: grad * -input * _atan2_coefficient(input, other),
    ),
)
def atan2(input, other):
    return np.arctan2(input, other)


# max + log1p(exp(-|difference|)): each term is rounded before the sum, which may cancel
@op(
    ulps=1.0,
    **_OTHER,
    refuses=no_kernel("logaddexp_cpu", BOOL, INT),
    scale=lambda input, other: _logaddexp_scale(input, other),
    reason="log1p and exp within 2 ulp, the larger operand, and their sum",
    vjp=dict(
        input=lambda grad, input, other: grad / (1 + (other - input).exp()),
        other=lambda grad, input, other: grad / (1 + (input - other).exp()),
    ),
)
def logaddexp(input, other):
    return np.where(input == other, input + np.log(np.asarray(2, input.dtype)), np.logaddexp(input, other))


def _logaddexp_scale(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    top = np.maximum(input, other)
    gap = np.minimum(input, other) - top
    small = np.where(np.isfinite(gap), np.exp(gap), 0)
    return np.where(np.isfinite(top), np.abs(top) + (10 - np.where(np.isfinite(gap), gap, 0)) * small, 0)


def _xlogy(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(
        np.isnan(other), np.asarray(np.nan, other.dtype), np.where(input == 0, np.zeros((), input.dtype), input * np.log(other))
    )


def _xlogy_input(grad, input, other):
    flat = (input == 0).logical_and(other <= 0)
    return masked(TABLE["xlogy"].public(masked(grad, flat), other), flat)


def _xlogy_input_number(grad, input, other):
    if other > 0:
        return TABLE["xlogy"].public(grad, other)
    return masked(TABLE["xlogy"].public(masked(grad, input == 0), other), input == 0)


_XLOGY = {"promote": "float", "inplace": True, "ulps": 3.0, "reason": "log within 1 ulp and a product"}


@op(
    **_XLOGY,
    also=("special",),
    number_only=("other",),
    node="2",
    vjp=dict(input=lambda grad, input, other: _xlogy_input_number(grad, input, other)),
)
def xlogy(input, other):
    return _xlogy(input, other)


@op(
    name="xlogy",
    **(_XLOGY | {"inplace": False}),
    number_only=("input",),
    node="1",
    vjp=dict(other=lambda grad, input, other: grad * input / other),
)
def _xlogy_of_number(input, other):
    return _xlogy(input, other)


@op(
    name="xlogy",
    **_XLOGY,
    vjp=dict(input=lambda grad, input, other: _xlogy_input(grad, input, other), other=lambda grad, input, other: grad * input / other),
)
def _xlogy_tensor(input, other):
    return _xlogy(input, other)


def _copysign_input(grad, input, result):
    at_zero = input == 0
    return grad * where(at_zero, 0, result / where(at_zero, 1, input))


_COPYSIGN = {**SELECTION, "promote": "float", "inplace": True}


@op(**_COPYSIGN, number_only=("other",), node="1", vjp=dict(input=lambda grad, input, result: _copysign_input(grad, input, result)))
def copysign(input, other):
    return np.copysign(input, other)


@op(
    name="copysign",
    **_COPYSIGN,
    vjp=dict(input=lambda grad, input, result: _copysign_input(grad, input, result), other=lambda grad, other_shape: zeros_like(grad)),
)
def _copysign_tensor(input, other):
    return np.copysign(input, other)


# --- larger and smaller -----------------------------------------------------------------------------------------------


def _half_at_ties(grad, input, other, loses):
    """The gradient of the winner; both get half where they are equal. NaN compares with nothing, so both get all."""
    return write_into(where(input == other, grad / 2, grad), "masked_fill", loses, 0)  # in place: the memory order is that of where


@op(
    **SELECTION,
    **_OTHER,
    vjp=dict(
        input=lambda grad, input, other: _half_at_ties(grad, input, other, input < other),
        other=lambda grad, input, other: _half_at_ties(grad, input, other, input > other),
    ),
)
def maximum(input, other):
    return np.maximum(input, other)


@op(
    **SELECTION,
    **_OTHER,
    vjp=dict(
        input=lambda grad, input, other: _half_at_ties(grad, input, other, input > other),
        other=lambda grad, input, other: _half_at_ties(grad, input, other, input < other),
    ),
)
def minimum(input, other):
    return np.minimum(input, other)


@op(
    **SELECTION,
    **_OTHER,
    vjp=dict(
        input=lambda grad, input, other: masked(grad, (input >= other).logical_or(other.isnan()).logical_not()),
        other=lambda grad, input, other: masked(grad, (input >= other).logical_or(other.isnan())),
    ),
)
def fmax(input, other):
    return np.fmax(input, other)


@op(
    **SELECTION,
    **_OTHER,
    vjp=dict(
        input=lambda grad, input, other: masked(grad, (input <= other).logical_or(other.isnan()).logical_not()),
        other=lambda grad, input, other: masked(grad, (input <= other).logical_or(other.isnan())),
    ),
)
def fmin(input, other):
    return np.fmin(input, other)


# --- lerp, addcmul, addcdiv -------------------------------------------------------------------------------------------


def _lerp_dtypes(kernel: str) -> Any:
    lacks = no_kernel(kernel, BOOL, INT)

    def refuse(nominal: _dtypes.dtype, values: list[Any]) -> None:
        first = values[0].dtype
        for name, value in zip(("end", "weight"), values[1:], strict=False):
            if value.dtype is not first and (name == "end" or value._data.ndim):
                raise error("expected_dtype", name=name, input=_dtypes.CPP_NAMES[first.name], found=_dtypes.CPP_NAMES[value.dtype.name])
        lacks(nominal, values)

    return refuse


def _lerp(input: np.ndarray, end: np.ndarray, weight: Any) -> np.ndarray:
    """From the end that is nearer, so that weights 0 and 1 give the ends."""
    return np.where(np.abs(weight) < 0.5, input + weight * (end - input), end - (end - input) * (1 - weight))


def _lerp_scale(input: np.ndarray, end: np.ndarray, weight: Any) -> np.ndarray:
    near = np.abs(weight) < 0.5
    return np.where(near, np.abs(input), np.abs(end)) + 3 * np.abs(end - input) * np.where(
        near, np.abs(weight), np.abs(1 - np.asarray(weight, end.dtype))
    )


_LERP = {"inplace": True, "ulps": 1.5, "scale": _lerp_scale, "reason": "a difference, a product, a sum"}


@op(
    **_LERP,
    tensors=("input", "end"),
    scalars=("weight",),
    types=dict(weight=(int, float)),
    tensor_only=("end",),
    refuses=_lerp_dtypes("lerp_kernel_scalar"),
    vjp=dict(input=lambda grad, weight: _mul_number(grad, 1 - weight), end=lambda grad, weight: _mul_number(grad, weight)),
)
def lerp(input, end, weight):
    return _lerp(input, end, weight)


@op(
    name="lerp",
    node="1",
    **_LERP,
    tensor_only=("end", "weight"),
    refuses=_lerp_dtypes("lerp_kernel_tensor"),
    vjp=dict(
        input=lambda grad, weight: grad * (1 - weight),
        end=lambda grad, weight: grad * weight,
        weight=lambda grad, input, end: grad * (end - input),
    ),
)
def _lerp_tensor(input, end, weight):
    return _lerp(input, end, weight)


_ADDC = {"inplace": True, "scalars": ("value",), "tensors": ("input", "tensor1", "tensor2"), "tensor_only": ("tensor1", "tensor2")}


@op(
    **_ADDC,
    refuses=no_kernel("addcmul_cpu_out", BOOL),
    ulps=3.0,
    reason="two products and a sum",
    scale=lambda input, tensor1, tensor2, value: np.abs(input) + np.abs(value * tensor1 * tensor2),
    vjp=dict(
        input=lambda grad: grad,
        tensor1=lambda grad, tensor2, value: grad * (tensor2 * value),
        tensor2=lambda grad, tensor1, value: grad * (tensor1 * value),
    ),
)
def addcmul(input, tensor1, tensor2, *, value=1):
    return input + value * tensor1 * tensor2


def _refuse_integer_quotient(nominal: _dtypes.dtype, values: list[Any]) -> None:
    if all(v.dtype.category != FLOAT for v in values[1:]):
        raise error("addcdiv_integers")


@op(
    **_ADDC,
    refuses=_refuse_integer_quotient,
    ulps=4.0,
    reason="a product, a quotient and a sum",
    scale=lambda input, tensor1, tensor2, value: np.abs(input) + np.abs(value * tensor1 / tensor2),
    vjp=dict(
        input=lambda grad: grad,
        tensor1=lambda grad, tensor2, value: grad * (value / tensor2),
        tensor2=lambda grad, tensor1, tensor2, value: -grad * (value * tensor1 / (tensor2 * tensor2)),
    ),
)
def addcdiv(input, tensor1, tensor2, *, value=1):
    return input + value * tensor1 / tensor2


# --- bits and logic ---------------------------------------------------------------------------------------------------


@op(direct=True, inplace=True, symbol="&", refuses=no_kernel("bitwise_and_cpu", FLOAT))
def bitwise_and(input, other):
    return np.bitwise_and(input, other)


@op(direct=True, inplace=True, symbol="|", refuses=no_kernel("bitwise_or_cpu", FLOAT))
def bitwise_or(input, other):
    return np.bitwise_or(input, other)


@op(direct=True, inplace=True, symbol="^", refuses=no_kernel("bitwise_xor_cpu", FLOAT))
def bitwise_xor(input, other):
    return np.bitwise_xor(input, other)


# a distance that is negative or as large as the dtype has bits leaves nothing but the sign, in numpy as in torch
@op(direct=True, inplace=True, symbol="<<", refuses=no_kernel("lshift_cpu", BOOL, FLOAT))
def bitwise_left_shift(input, other):
    return np.left_shift(input, other)


@op(direct=True, inplace=True, symbol=">>", refuses=no_kernel("rshift_cpu", BOOL, FLOAT))
def bitwise_right_shift(input, other):
    return np.right_shift(input, other)


@op(promote="bool", inplace=True, undecided=undecided_truth, **_OTHER)
def logical_and(input, other):
    return np.logical_and(input, other)


@op(promote="bool", inplace=True, undecided=undecided_truth, **_OTHER)
def logical_or(input, other):
    return np.logical_or(input, other)


@op(promote="bool", inplace=True, undecided=undecided_truth, **_OTHER)
def logical_xor(input, other):
    return np.logical_xor(input, other)
