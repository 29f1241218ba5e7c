"""Functions of one tensor, element by element.

Allowances are the larger of what the CUDA programming guide, glibc's manual and SLEEF (u10: 1.0 ulp) promise for the function;
``vendor(2)`` says 2 ulp, which is 4 u. Where torch composes a function of several roundings, the entry counts them.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special as scipy_special

from refgrad import _dtypes
from refgrad._dispatch import no_kernel
from refgrad._dtypes import BOOL, FLOAT, INT
from refgrad._errors import declare, error
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor

declare(
    "neg_bool",
    RuntimeError,
    "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use the `~` or "
    "`logical_not()` operator instead.",
)
declare("positive_bool", RuntimeError, "The `+` operator, on a bool tensor is not supported.")
declare("relu_bool", RuntimeError, "Boolean inputs not supported for {name}")


def vendor(ulp: float) -> dict[str, Any]:
    """The allowance of a library function whose vendors promise at most ``ulp`` ulp (of the result)."""
    return {
        "ulps": 2.0 * ulp,
        "reason": f"vendors promise {ulp:g} ulp: CUDA programming guide, glibc manual (errors of mathematical functions), SLEEF u10",
    }


def refusal(key: str, **parts: Any) -> Any:
    """For ``refuses``: the error ``key`` for bool tensors."""

    def refuse(nominal: _dtypes.dtype, values: list[Any]) -> None:
        if nominal.category == BOOL:
            raise error(key, **parts)

    return refuse


def zeros_like(t: Any) -> Any:
    return TABLE["zeros_like"].public(t)


def masked(t: Any, mask: Any) -> Any:
    """``t`` with zeros where the mask is true."""
    return t.masked_fill(mask, 0)


def where(condition: Any, input: Any, other: Any) -> Any:
    return TABLE["where"].public(condition, input, other)


@op(
    name="_mul_number",
    node="MulBackward1",
    function=False,
    method=False,
    direct=True,
    tensors=("input",),
    scalars=("number",),
    ulps=2.0,
    reason="the number and the product are rounded",
    vjp=dict(input=lambda grad, number: _mul_number(grad, number)),
)
def _mul_number(input, number):
    """A product with a number that is a formula's own, no operand of the program's: nothing is saved."""
    return input * number


SELECTION = {"direct": True, "ulps": 0.0, "reason": "selects or changes signs: exact"}


def undecided_truth(arguments: list[Any], radii: list[Any]) -> Any:
    """Where an operand taken for a truth value may be zero or not."""
    return functools.reduce(np.logical_or, [(r > 0) & (np.abs(a) <= r) for a, r in zip(arguments, radii, strict=True) if r is not None])


def monotone(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """For ``moves``: how far a monotone function moves over a ball. Its slope alone says too little where the radius is large."""

    def moves(argument: Any, radius: Any, result: Any) -> Any:
        with np.errstate(all="ignore"):
            above, below = function(argument + radius) - result, result - function(argument - radius)
        return np.where(np.asarray(radius) == 0, 0.0, np.maximum(above, below))

    return moves


def wave(slope: Callable[[Any], Any]) -> Callable[..., Any]:
    """For ``moves`` of sin and cos, whose second derivative and values are at most 1."""
    return lambda argument, radius, result: np.minimum((np.abs(slope(argument)) + radius / 2) * radius, 1 + np.abs(result))


# --- signs, rounding --------------------------------------------------------------------------------------------------


@op(
    direct=True,
    inplace=True,
    error="linear",
    iterates=True,
    ulps=0.0,
    symbol="neg",
    refuses=refusal("neg_bool"),
    vjp=dict(input=lambda grad: -grad),
)
def neg(input):
    return np.negative(input)


@op(composite=True)
def positive(input):
    if input.dtype.category == BOOL:
        raise error("positive_bool")
    return input


@op(**SELECTION, inplace=True, symbol="abs", refuses=no_kernel("abs_cpu", BOOL), vjp=dict(input=lambda grad, input: grad * input.sgn()))
def abs(input):
    return np.abs(input)


def _sign(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return array
    return np.asarray((array > 0).astype(array.dtype) - (array < 0).astype(array.dtype), array.dtype)  # NaN gives 0, as in torch


@op(**SELECTION, inplace=True, vjp=dict(input=lambda grad: zeros_like(grad)))
def sign(input):
    return _sign(input)


@op(**SELECTION, inplace=True, vjp=dict(input=lambda grad, input, result: zeros_like(grad)))
def sgn(input):
    return _sign(input)


@op(**SELECTION, inplace=True, refuses=no_kernel("floor_vml_cpu", BOOL), vjp=dict(input=lambda grad: zeros_like(grad)))
def floor(input):
    return np.floor(input)


@op(**SELECTION, inplace=True, refuses=no_kernel("ceil_vml_cpu", BOOL), vjp=dict(input=lambda grad: zeros_like(grad)))
def ceil(input):
    return np.ceil(input)


@op(**SELECTION, inplace=True, refuses=no_kernel("trunc_vml_cpu", BOOL), vjp=dict(input=lambda grad: zeros_like(grad)))
def trunc(input):
    return np.trunc(input)


@op(**SELECTION, inplace=True, refuses=no_kernel("round_vml_cpu", BOOL), vjp=dict(input=lambda grad: zeros_like(grad)))
def round(input):
    return np.rint(input) if input.dtype.kind == "f" else input.copy()


def _decimals_radius(arguments, radii, results, nominal):
    """Scaling rounds, so a value next to a tie may go either way: then the results differ by one step."""
    input, decimals = arguments
    scaled = np.abs(np.asarray(input, np.float64)) * 10.0**decimals
    carried = 0.0 if radii[0] is None else radii[0] * 10.0**decimals
    near_tie = np.abs(scaled - np.floor(scaled) - 0.5) <= 4 * nominal.unit * scaled + carried
    return near_tie * 10.0**-decimals + 4 * nominal.unit * np.abs(np.asarray(results[0], np.float64)) + nominal.eta


@op(
    name="round",
    node="1",
    inplace=True,
    refuses=no_kernel("round_cpu", BOOL, INT),
    radius=_decimals_radius,
    types=dict(decimals=int),
    reason="scaled, rounded, scaled back",
    vjp=dict(input=lambda grad: zeros_like(grad)),
)
def _round_decimals(input, *, decimals):
    ten = np.asarray(10, input.dtype) ** builtins.abs(decimals)
    return np.rint(input * ten) / ten if decimals >= 0 else np.rint(input / ten) * ten


@op(
    direct=True,
    inplace=True,
    ulps=0.0,
    reason="the difference is exact",
    refuses=no_kernel("frac_cpu", BOOL, INT),
    vjp=dict(input=lambda grad: grad),
)
def frac(input):
    return input - np.trunc(input)


@op(
    name="_nan_to_num",
    **SELECTION,
    scalars=("nan", "posinf", "neginf"),
    inplace=True,
    function=False,
    method=False,
    node="NanToNumBackward0",
    copies_over=lambda input, nan, posinf, neginf: input.is_floating_point(),
    vjp=dict(input=lambda grad, input: grad * TABLE["isfinite"].public(input)),
)
def _nan_to_num(input, nan, posinf, neginf):
    if input.dtype.kind != "f":
        return input.copy()
    out = np.where(np.isnan(input), nan, input)
    out = np.where(input == np.inf, posinf, out)
    return np.where(input == -np.inf, neginf, out)


def _fills(input, nan, posinf, neginf):
    largest = input.dtype.largest
    return (0.0 if nan is None else nan, largest if posinf is None else posinf, -largest if neginf is None else neginf)


@op(composite=True)
def nan_to_num(input, nan=None, posinf=None, neginf=None):
    return _nan_to_num(input, *_fills(input, nan, posinf, neginf))


def _nan_to_num_inplace(input, nan=None, posinf=None, neginf=None):
    return TABLE["_nan_to_num"].inplace_public(input, *_fills(input, nan, posinf, neginf))


TABLE["nan_to_num"].inplace_public = _nan_to_num_inplace


# --- powers and roots -------------------------------------------------------------------------------------------------


@op(composite=True)
def square(input):
    return input.pow(2)


TABLE["square"].inplace_public = lambda input: input.pow_(2)


@op(
    promote="float",
    direct=True,
    inplace=True,
    ulps=2.0,
    reason="IEEE's is correctly rounded; vector code refines an estimate to 1 ulp",
    vjp=dict(input=lambda grad, result: grad / (2 * result)),
)
def sqrt(input):
    return np.sqrt(input)


@op(promote="float", inplace=True, **vendor(2), vjp=dict(input=lambda grad, result: -0.5 * grad * result.pow(3)))
def rsqrt(input):
    return 1 / np.sqrt(input)


@op(
    promote="float",
    direct=True,
    inplace=True,
    ulps=2.0,
    reason="IEEE's is correctly rounded; vector code refines an estimate to 1 ulp",
    vjp=dict(input=lambda grad, result: -grad * (result * result)),
)
def reciprocal(input):
    return 1 / input


# --- exponentials and logarithms --------------------------------------------------------------------------------------


@op(promote="float", inplace=True, **vendor(2), moves=monotone(np.exp), vjp=dict(input=lambda grad, result: grad * result))
def exp(input):
    return np.exp(input)


@op(
    promote="float",
    inplace=True,
    also=("special",),
    **vendor(2),
    moves=monotone(np.exp2),
    vjp=dict(input=lambda grad, result: _mul_number(grad * result, math.log(2))),
)
def exp2(input):
    return np.exp2(input)


@op(
    promote="float",
    inplace=True,
    also=("special",),
    **vendor(2),
    moves=monotone(np.expm1),
    vjp=dict(input=lambda grad, result: grad * (result + 1)),
)
def expm1(input):
    return np.expm1(input)


@op(promote="float", inplace=True, **vendor(1), vjp=dict(input=lambda grad, input: grad / input))
def log(input):
    return np.log(input)


@op(promote="float", inplace=True, also=("special",), **vendor(2), vjp=dict(input=lambda grad, input: grad / (input + 1)))
def log1p(input):
    return np.log1p(input)


@op(promote="float", inplace=True, **vendor(1), vjp=dict(input=lambda grad, input: grad / _mul_number(input, math.log(2))))
def log2(input):
    return np.log2(input)


@op(promote="float", inplace=True, **vendor(2), vjp=dict(input=lambda grad, input: grad / _mul_number(input, math.log(10))))
def log10(input):
    return np.log10(input)


# --- trigonometry -----------------------------------------------------------------------------------------------------


@op(promote="float", inplace=True, **vendor(2), moves=wave(np.cos), vjp=dict(input=lambda grad, input: grad * input.cos()))
def sin(input):
    return np.sin(input)


@op(promote="float", inplace=True, **vendor(2), moves=wave(np.sin), vjp=dict(input=lambda grad, input: grad * -input.sin()))
def cos(input):
    return np.cos(input)


@op(promote="float", inplace=True, **vendor(4), vjp=dict(input=lambda grad, result: grad * (1 + result.pow(2))))
def tan(input):
    return np.tan(input)


@op(promote="float", inplace=True, **vendor(2), vjp=dict(input=lambda grad, input: grad * (-input * input + 1).rsqrt()))
def asin(input):
    return np.arcsin(input)


@op(promote="float", inplace=True, **vendor(2), vjp=dict(input=lambda grad, input: grad * -(-input * input + 1).rsqrt()))
def acos(input):
    return np.arccos(input)


@op(promote="float", inplace=True, **vendor(2), vjp=dict(input=lambda grad, input: grad / (input * input + 1)))
def atan(input):
    return np.arctan(input)


@op(promote="float", inplace=True, **vendor(3), vjp=dict(input=lambda grad, input: grad * input.cosh()))
def sinh(input):
    return np.sinh(input)


@op(promote="float", inplace=True, **vendor(2), vjp=dict(input=lambda grad, input: grad * input.sinh()))
def cosh(input):
    return np.cosh(input)


@op(promote="float", inplace=True, inplace_node="1", **vendor(3), vjp=dict(input=lambda grad, input: grad * (input.pow(2) + 1).rsqrt()))
def asinh(input):
    return np.arcsinh(input)


@op(promote="float", inplace=True, inplace_node="1", **vendor(4), vjp=dict(input=lambda grad, input: grad * (input * input - 1).rsqrt()))
def acosh(input):
    return np.arccosh(input)


@op(promote="float", inplace=True, inplace_node="1", **vendor(3), vjp=dict(input=lambda grad, input: grad * 1 / (1 - input.pow(2))))
def atanh(input):
    return np.arctanh(input)


def _inplace_not_implemented(name):
    """The in-place form has a node of its own, which keeps nothing and raises when reached."""

    def refuse(self, grads):
        raise RuntimeError(f"derivative for inplace version of {name} is not implemented")

    TABLE[name].inplace_node.apply = refuse


for _name in ("asinh", "acosh", "atanh"):
    _inplace_not_implemented(_name)


@op(
    promote="float",
    inplace=True,
    ulps=2.0,
    reason="the constant and the product are rounded",
    vjp=dict(input=lambda grad: _mul_number(grad, math.pi / 180)),
)
def deg2rad(input):
    return input * _pi_over_180(input.dtype)


@op(
    promote="float",
    inplace=True,
    ulps=2.0,
    reason="the constant and the product are rounded",
    vjp=dict(input=lambda grad: _mul_number(grad, 180 / math.pi)),
)
def rad2deg(input):
    return input / _pi_over_180(input.dtype)


LONG_PI = np.longdouble("3.14159265358979323846264338327950288")


def _pi_over_180(dtype: np.dtype) -> Any:
    return (LONG_PI / 180).astype(dtype)


# sin(πx) errs by the rounding of πx, at most 2u|πx|, which the division by πx turns into 2u
@op(
    promote="float",
    inplace=True,
    also=("special",),
    ulps=1.0,
    scale=lambda input: 2 + 6 * np.abs(_sinc(input)),
    reason="the argument of sin and π are rounded",
    vjp=dict(input=lambda grad, input: _sinc_vjp(grad, input)),
)
def sinc(input):
    return _sinc(input)


def _sinc(x: np.ndarray) -> np.ndarray:
    half = np.rint(x * 2) / 2  # sin(πx) from the exactly reduced argument
    turned = x - half
    angle = turned * LONG_PI.astype(x.dtype)
    quarter = np.where(np.isfinite(half), np.mod(half * 2, 4), 0)
    s, c = np.sin(angle), np.cos(angle)
    sine = np.where(quarter == 0, s, np.where(quarter == 1, c, np.where(quarter == 2, -s, -c)))
    return np.where(x == 0, np.ones_like(x), np.where(np.isinf(x), np.nan, sine) / (x * LONG_PI.astype(x.dtype)))


def _sinc_vjp(grad, input):
    angle = input * math.pi
    square = (input * input) * math.pi
    at_zero = square == 0
    # sinc(x) = 1 - (πx)²/6 + …: the slope at 0 is 0, whatever it is multiplied by, and its own slope there -π²/3
    near = 0 - where(at_zero & grad.isfinite(), grad, 0) * (where(at_zero, input, 0) * (math.pi * math.pi / 3))  # 0, not -0
    return where(at_zero, near, grad * where(at_zero, 0, (angle * angle.cos() - angle.sin()) / where(at_zero, 1, square)))


# --- sigmoid, tanh ----------------------------------------------------------------------------------------------------

_KERNEL = {"function": False, "method": False, "tensors": ("grad_output", "output")}


@op(
    **_KERNEL,
    ulps=3.0,
    reason="three roundings",
    vjp=dict(
        grad_output=lambda grad, output: TABLE["sigmoid_backward"].public(grad, output),
        output=lambda grad, grad_output, output: grad * grad_output * (-2 * output + 1),
    ),
)
def sigmoid_backward(grad_output, output):
    return grad_output * (1 - output) * output


@op(
    **_KERNEL,
    ulps=1.0,
    scale=lambda grad_output, output: np.abs(grad_output) * (output * output + 2 * np.abs(1 - output * output)),
    reason="output² is rounded, then the difference and the product",
    vjp=dict(
        grad_output=lambda grad, output: TABLE["tanh_backward"].public(grad, output),
        output=lambda grad, grad_output, output: grad * (-2 * output * grad_output),
    ),
)
def tanh_backward(grad_output, output):
    return grad_output * (1 - output * output)


@op(
    promote="float",
    inplace=True,
    ulps=7.0,
    flushes=True,
    reason="exp within 2 ulp, sum, quotient; exp(-x) overflows where the result is below the normal range",
    moves=monotone(lambda x: 1 / (1 + np.exp(-x))),
    vjp=dict(input=lambda grad, result: sigmoid_backward(grad, result)),
)
def sigmoid(input):
    return 1 / (1 + np.exp(-input))


@op(promote="float", inplace=True, **vendor(2), moves=monotone(np.tanh), vjp=dict(input=lambda grad, result: tanh_backward(grad, result)))
def tanh(input):
    return np.tanh(input)


# log(x / (1 - x)): the quotient's error becomes absolute
@op(
    promote="float",
    inplace=True,
    also=("special",),
    scalars=("eps",),
    ulps=1.0,
    scale=lambda input, eps: 4 + 2 * np.abs(_logit(input, eps)),
    reason="log within 1 ulp of a quotient of 4 u",
    vjp=dict(input=lambda grad, input, eps: _logit_vjp(grad, input, eps)),
)
def logit(input, eps=None):
    return _logit(input, eps)


def _logit(x: np.ndarray, eps: float | None) -> np.ndarray:
    if eps is not None:
        x = np.where(x < eps, eps, np.where(x > 1 - eps, 1 - eps, x))
    return np.log(x / (1 - x))


def _logit_vjp(grad, input, eps):
    outside = (input < 0).logical_or(input > 1) if eps is None else (input < eps).logical_or(input > 1 - eps)
    if eps is None:
        return where(outside, math.nan, grad / (input * (1 - input)).abs())  # abs: the limit from inside at -0.0 too
    return where(outside, 0.0, where(outside, 0.0, grad) / where(outside, 1.0, input * (1 - input)))


# --- relu -------------------------------------------------------------------------------------------------------------


@op(
    function=False,
    method=False,
    tensors=("grad_output", "input"),
    scalars=("threshold",),
    memory_order="last first",
    **SELECTION,
    vjp=dict(
        grad_output=lambda grad, input, threshold: TABLE["threshold_backward"].public(grad, input, threshold),
        input=lambda grad: zeros_like(grad),
    ),
)
def threshold_backward(grad_output, input, threshold):
    return np.where(input <= threshold, np.zeros((), grad_output.dtype), grad_output)


@op(
    **SELECTION,
    inplace=True,
    also=("nn.functional",),
    refuses=refusal("relu_bool", name="relu"),
    vjp=dict(input=lambda grad, result: threshold_backward(grad, result, 0)),
)
def relu(input):
    return np.maximum(input, np.zeros((), input.dtype))


# --- error function ---------------------------------------------------------------------------------------------------


def _square_parts(x: np.ndarray) -> np.ndarray:
    """exp(-x²) for longdouble with x² split, so that its rounding is not magnified by x²."""
    high = np.ldexp(np.rint(np.ldexp(x, 26)), -26)  # |x| < 108 keeps high² exact in 64 bits
    return np.exp(-high * high) * np.exp(-(x - high) * (x + high))


def _erf_series(x: np.ndarray) -> np.ndarray:
    """erf by its all-positive series 2/√π · exp(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!! (Abramowitz and Stegun 7.1.6), for |x| < 3."""
    term, total = x.copy(), x.copy()
    for n in range(1, 90):
        term = term * (2 * x * x) / (2 * n + 1)
        total = total + term
    return 2 / np.sqrt(LONG_PI) * _square_parts(x) * total


def _erfc_fraction(x: np.ndarray) -> np.ndarray:
    """erfc by its continued fraction (Abramowitz and Stegun 7.1.14), for x >= 3."""
    tail = x
    for n in range(120, 0, -1):
        tail = x + np.longdouble(n) / 2 / tail
    return _square_parts(x) / (np.sqrt(LONG_PI) * tail)


def _erf_wide(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.longdouble:
        return scipy_special.erf(x)
    size = np.abs(x)
    near = _erf_series(np.where(size < 3, x, 0))
    far = np.sign(x) * (1 - _erfc_fraction(np.clip(size, 3, 100)))
    return np.where(np.isnan(x), x, np.where(size < 3, near, far))


def _erfc_wide(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.longdouble:
        return scipy_special.erfc(x)
    far = _erfc_fraction(np.clip(x, 3, 107))
    middle = _erfc_middle(np.clip(x, 0.4375, 3))
    near = 1 - _erf_wide(np.minimum(x, 0.4375))
    return np.where(np.isnan(x), x, np.where(x >= 3, far, np.where(x > 0.4375, middle, near)))


def _erfc_middle(x: np.ndarray) -> np.ndarray:
    """1 - erf loses what erf's size exceeds the result by; the continued fraction, taken deeper, does not."""
    tail = x
    for n in range(1600, 0, -1):
        tail = x + np.longdouble(n) / 2 / tail
    return _square_parts(x) / (np.sqrt(LONG_PI) * tail)


TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


@op(
    promote="float",
    inplace=True,
    also=("special",),
    **vendor(2),
    vjp=dict(input=lambda grad, input: TWO_OVER_ROOT_PI * (-input.pow(2)).exp() * grad),
)
def erf(input):
    return _erf_wide(input)


@op(
    promote="float",
    inplace=True,
    also=("special",),
    **vendor(5),
    vjp=dict(input=lambda grad, input: -TWO_OVER_ROOT_PI * (-input.pow(2)).exp() * grad),
)
def erfc(input):
    return _erfc_wide(input)


# --- predicates and bits ----------------------------------------------------------------------------------------------


@op(promote="bool")
def isnan(input):
    return np.isnan(input)


@op(promote="bool")
def isinf(input):
    return np.isinf(input)


@op(promote="bool", differentiated=True)
def isfinite(input):
    return np.isfinite(input)


@op(promote="bool", inplace=True, undecided=undecided_truth)
def logical_not(input):
    return np.logical_not(input)


@op(direct=True, inplace=True, refuses=no_kernel("bitwise_not_cpu", FLOAT))
def bitwise_not(input):
    return np.invert(input)


def _invert(self: Any) -> Any:
    if self.dtype.category == FLOAT:
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return bitwise_not(self)


Tensor.__invert__ = _invert  # type: ignore[operator]
Tensor.__pos__ = positive  # type: ignore[operator]
