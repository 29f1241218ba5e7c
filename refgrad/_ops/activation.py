"""Activations and softmax.

torch computes most gradients here by kernels of their own (``GeluBackward0`` runs ``gelu_backward``), whose nodes appear under
``create_graph``; they are private entries. Functions with ``inplace=`` are thin: they choose between an entry and its in-place form.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import no_kernel
from refgrad._dtypes import BOOL, FLOAT, INT
from refgrad._errors import declare, error
from refgrad._ops.binary import not_implemented
from refgrad._ops.comparison import where
from refgrad._ops.reduction import normal_dims, sum_ulps
from refgrad._ops.unary import SELECTION, _erf_wide, refusal, sigmoid_backward, threshold_backward, zeros_like
from refgrad._table import TABLE, op

declare("gelu_approximate", RuntimeError, "approximate argument must be either none or tanh.")
declare("hardtanh_bounds", ValueError, "min_val cannot be greater than max_val")
declare("hardtanh_unsigned", RuntimeError, "cannot do hardtanh on an unsigned type with negative limits")
declare("hardtanh_bool", RuntimeError, "Bool inputs not supported for hardtanh")
declare(
    "inplace_negative_slope",
    RuntimeError,
    "In-place {name} backward calculation is triggered with a negative slope which is not supported. This is caused by "
    "calling in-place forward function with a negative slope, please call out-of-place version instead. File an issue at "
    "https://github.com/pytorch/pytorch if you do require supporting in-place leakRelu backward calculation with negative "
    "slope",
)

F = "nn.functional"
#: an entry behind a thin public function
_PRIVATE = {"function": False, "method": False}
#: a kernel that computes a gradient
_KERNEL = {**_PRIVATE, "tensors": ("grad_output", "input")}


def _finite(array: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(array), np.abs(array), 0)


def _floats(kernel: str) -> Any:
    return no_kernel(kernel, BOOL, INT)


def _inplace(name: str, *arguments: Any) -> Any:
    return TABLE[name].inplace_public(*arguments)


# --- relu and its kin -------------------------------------------------------------------------------------------------


@op(name="relu", composite=True, types=dict(inplace=bool))
def _relu_with_flag(input, inplace):
    return _inplace("relu", input) if inplace else TABLE["relu"].python(input)


_THRESHOLD = {
    "name": "_threshold",
    **_PRIVATE,
    **SELECTION,
    "scalars": ("threshold", "value"),
    "refuses": no_kernel("threshold_cpu", BOOL),
    "checks_overlap": False,
}


@op(**_THRESHOLD, vjp=dict(input=lambda grad, input, threshold: threshold_backward(grad, input, threshold)))
def _threshold(input, threshold, value):
    return np.where(input <= threshold, value, input)


@op(**_THRESHOLD, node="1", inplace=True, vjp=dict(input=lambda grad, result, threshold: threshold_backward(grad, result, threshold)))
def _threshold_written(input, threshold, value):
    return np.where(input <= threshold, value, input)


@op(where=F, composite=True)
def threshold(input, threshold, value, inplace=False):
    return _inplace("_threshold", input, threshold, value) if inplace else _threshold(input, threshold, value)


@op(
    **_KERNEL,
    scalars=("slope",),
    memory_order="last first",
    direct=True,
    ulps=1.0,
    reason="at most one product",
    vjp=dict(grad_output=lambda grad, input, slope: leaky_relu_backward(grad, input, slope), input=lambda grad: zeros_like(grad)),
)
def leaky_relu_backward(grad_output, input, slope):
    return np.where(input > 0, grad_output, grad_output * slope)


def _leaky(input: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.where(input > 0, input, input * slope)


def _leaky_from_result(grad, result, negative_slope):
    if negative_slope < 0:
        raise error("inplace_negative_slope", name="leakyReLu")
    return leaky_relu_backward(grad, result, negative_slope)


_LEAKY = {
    "name": "_leaky_relu",
    **_PRIVATE,
    "scalars": ("negative_slope",),
    "direct": True,
    "ulps": 1.0,
    "reason": "at most one product",
    "refuses": _floats("leaky_relu_cpu"),
}


@op(**_LEAKY, vjp=dict(input=lambda grad, input, negative_slope: leaky_relu_backward(grad, input, negative_slope)))
def _leaky_relu(input, negative_slope):
    return _leaky(input, negative_slope)


@op(**_LEAKY, node="1", inplace=True, vjp=dict(input=lambda grad, result, negative_slope: _leaky_from_result(grad, result, negative_slope)))
def _leaky_relu_written(input, negative_slope):
    return _leaky(input, negative_slope)


@op(where=F, composite=True)
def leaky_relu(input, negative_slope=0.01, inplace=False):
    return _inplace("_leaky_relu", input, negative_slope) if inplace else _leaky_relu(input, negative_slope)


# --- elu, selu, celu --------------------------------------------------------------------------------------------------


_COEFFICIENTS = ("alpha", "scale", "input_scale")


def _elu_array(input: np.ndarray, alpha: Any, scale: Any, input_scale: Any) -> np.ndarray:
    return np.where(input > 0, input * scale, np.expm1(input * input_scale) * (alpha * scale))


_ELU = {
    **_PRIVATE,
    "refuses": _floats("elu_cpu"),
    "ulps": 8.0,
    "reason": "expm1 within 2 ulp of a rounded argument, and two products",
}


@op(
    **_KERNEL,
    name="elu_backward",
    scalars=_COEFFICIENTS,
    ulps=8.0,
    reason="exp within 2 ulp, three products",
    scale=lambda grad_output, alpha, scale, input_scale, input: np.abs(grad_output) * _elu_slope_scale(input, alpha, scale, input_scale),
    vjp=dict(
        grad_output=lambda grad, alpha, scale, input_scale, input: _elu_backward(grad, alpha, scale, input_scale, input),
        input=lambda grad, grad_output, alpha, scale, input_scale, input: _elu_second(grad * grad_output, alpha, scale, input_scale, input),
    ),
)
def _elu_backward(grad_output, alpha, scale, input_scale, input):
    return np.where(input <= 0, grad_output * input_scale * (alpha * scale) * np.exp(input * input_scale), grad_output * scale)


def _elu_slope_scale(input: np.ndarray, alpha: Any, scale: Any, input_scale: Any) -> np.ndarray:
    """Where the exponent is rounded, its size counts."""
    inner = np.minimum(input, 0) * input_scale
    slope = np.where(input <= 0, np.abs(input_scale * alpha * scale) * np.exp(inner), np.abs(scale))
    return slope * (1 + np.where(np.isfinite(inner), np.abs(inner), 0) / 4)


def _elu_second(product, alpha, scale, input_scale, input):
    rising = input >= 0  # at the kink of the first derivative: 0, the end of [0, …] with the smallest norm
    return where(rising, 0, product) * (where(rising, 0, input) * input_scale).exp() * (input_scale * input_scale * alpha * scale)


@op(
    **_KERNEL | {"tensors": ("grad_output", "output")},
    name="_elu_backward_from_result",
    node="EluBackwardBackward0",
    scalars=_COEFFICIENTS,
    ulps=4.0,
    reason="a sum and three products",
    scale=lambda grad_output, alpha, scale, input_scale, output: _from_result_scale(grad_output, alpha, scale, input_scale, output),
    vjp=dict(
        grad_output=lambda grad, alpha, scale, input_scale, output: _elu_backward_from_result(grad, alpha, scale, input_scale, output),
        output=lambda grad, grad_output, input_scale, output: where(output < 0, grad * grad_output * input_scale, 0),
    ),
)
def _elu_backward_from_result(grad_output, alpha, scale, input_scale, output):
    return np.where(output <= 0, grad_output * input_scale * (output + alpha * scale), grad_output * scale)


def _from_result_scale(grad_output, alpha, scale, input_scale, output):
    return np.abs(grad_output) * np.where(output <= 0, np.abs(input_scale) * (np.abs(output) + np.abs(alpha * scale)), np.abs(scale))


@op(
    name="_elu",
    **_ELU,
    scalars=_COEFFICIENTS,
    vjp=dict(input=lambda grad, alpha, scale, input_scale, input: _elu_backward(grad, alpha, scale, input_scale, input)),
)
def _elu(input, alpha, scale, input_scale):
    return _elu_array(input, alpha, scale, input_scale)


@op(
    name="_elu",
    node="1",
    inplace=True,
    **_ELU,
    scalars=_COEFFICIENTS,
    vjp=dict(input=lambda grad, alpha, scale, input_scale, result: _elu_from_result(grad, alpha, scale, input_scale, result)),
)
def _elu_written(input, alpha, scale, input_scale):
    return _elu_array(input, alpha, scale, input_scale)


def _elu_from_result(grad, alpha, scale, input_scale, result):
    if alpha < 0:
        raise error("inplace_negative_slope", name="elu")
    return _elu_backward_from_result(grad, alpha, scale, input_scale, result)


@op(where=F, composite=True)
def elu(input, alpha=1.0, inplace=False):
    return _inplace("_elu", input, alpha, 1.0, 1.0) if inplace else _elu(input, alpha, 1.0, 1.0)


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)  # Klambauer et al., Self-Normalizing Neural Networks


@op(also=(F,), composite=True, method=False)
def selu(input, inplace=False):
    return _inplace("_elu", input, *_SELU) if inplace else _elu(input, *_SELU)


@op(
    name="_celu", **_ELU, scalars=("alpha",), vjp=dict(input=lambda grad, alpha, input: _elu_backward(grad, alpha, 1.0, 1.0 / alpha, input))
)
def _celu(input, alpha):
    return _elu_array(input, alpha, np.ones((), input.dtype), 1 / alpha)


@op(
    name="_celu",
    node="1",
    inplace=True,
    **_ELU,
    scalars=("alpha",),
    vjp=dict(input=lambda grad, alpha, result: _elu_backward_from_result(grad, alpha, 1.0, 1.0 / alpha, result)),
)
def _celu_written(input, alpha):
    return _elu_array(input, alpha, np.ones((), input.dtype), 1 / alpha)


@op(also=(F,), composite=True, method=False)
def celu(input, alpha=1.0, inplace=False):
    return _inplace("_celu", input, alpha) if inplace else _celu(input, alpha)


# --- softplus, logsigmoid ---------------------------------------------------------------------------------------------


def _logistic(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def _exponent_scale(inner: np.ndarray, result: Any) -> np.ndarray:
    """A result relative to which an error of one unit in the exponent ``inner`` is |inner| units."""
    return np.abs(result) * (1 + np.where(np.isfinite(inner), np.abs(inner), 0) / 8)


@op(
    **_KERNEL,
    scalars=("beta", "threshold"),
    ulps=9.0,
    flushes=True,
    reason="exp within 2 ulp of a rounded argument, sum, product, quotient",
    scale=lambda grad_output, input, beta, threshold: np.abs(grad_output) * _exponent_scale(input * beta, _logistic(input * beta)),
    vjp=dict(
        grad_output=lambda grad, input, beta, threshold: softplus_backward(grad, input, beta, threshold),
        input=lambda grad, grad_output, input, beta, threshold: _softplus_second(grad * grad_output, input, beta, threshold),
    ),
)
def softplus_backward(grad_output, input, beta, threshold):
    inner = input * beta
    return np.where(inner > threshold, grad_output, grad_output * _logistic(inner))


def _softplus_second(product, input, beta, threshold):
    inner = input * beta
    return where(inner < threshold, sigmoid_backward(product, inner.sigmoid()) * beta, 0)


@op(
    where=F,
    scalars=("beta", "threshold"),
    ulps=9.0,
    flushes=True,
    reason="log1p and exp within 2 ulp of a rounded argument, a quotient",
    refuses=_floats("softplus_cpu"),
    scale=lambda input, beta, threshold: _exponent_scale(np.minimum(input * beta, 0), _softplus_array(input, beta, threshold)),
    vjp=dict(input=lambda grad, input, beta, threshold: softplus_backward(grad, input, beta, threshold)),
)
def softplus(input, beta=1, threshold=20):
    return _softplus_array(input, beta, threshold)


def _softplus_array(input: np.ndarray, beta: Any, threshold: Any) -> np.ndarray:
    inner = input * beta
    return np.where(inner > threshold, input, np.log1p(np.exp(inner)) / beta)


def log_sigmoid_array(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), order="C")


@op(
    **_KERNEL,
    memory_order="grad_output",  # then comes a contiguous buffer that torch keeps from the forward
    ulps=8.0,
    flushes=True,
    reason="exp within 2 ulp, sum, quotient, product; torch forms 1 - z / (1 + z) where the input is negative",
    scale=lambda grad_output, input: np.abs(grad_output) * np.where(input < 0, 1, _logistic(-input)),
    vjp=dict(
        grad_output=lambda grad, input: log_sigmoid_backward(grad, input),
        input=lambda grad, grad_output, input: -sigmoid_backward(grad * grad_output, input.sigmoid()),
    ),
)
def log_sigmoid_backward(grad_output, input):
    return grad_output * _logistic(-input)


@op(
    where=F,
    node="LogSigmoidBackward0",
    iterates=False,
    ulps=6.0,
    flushes=True,
    reason="log1p and exp within 2 ulp, a sum",
    refuses=_floats("log_sigmoid_cpu"),
    vjp=dict(input=lambda grad, input: log_sigmoid_backward(grad, input)),
)
def logsigmoid(input):
    return log_sigmoid_array(input)


# --- silu, mish, gelu -------------------------------------------------------------------------------------------------


def _silu_vjp(grad, input):
    s = input.sigmoid()
    return grad * (s * (1 + input * (1 - s)))


def _mish_vjp(grad, input):
    tanh_softplus = softplus(input).tanh()
    return grad * (tanh_softplus + input * input.sigmoid() * (1 - tanh_softplus * tanh_softplus))


@op(
    name="_silu",
    **_PRIVATE,
    inplace=True,
    ulps=8.0,
    flushes=_finite,
    refuses=_floats("silu_cpu"),
    reason="exp within 2 ulp, sum, quotient; 0 where exp(-x) overflows",
    vjp=dict(input=lambda grad, input: _silu_vjp(grad, input)),
)
def _silu(input):
    return input / (1 + np.exp(-input))


@op(where=F, composite=True)
def silu(input, inplace=False):
    return _inplace("_silu", input) if inplace else _silu(input)


@op(
    name="_mish",
    **_PRIVATE,
    inplace=True,
    ulps=16.0,
    flushes=_finite,
    reason="exp, log1p and tanh within 2 ulp each, a product",
    refuses=_floats("mish_cpu"),
    vjp=dict(input=lambda grad, input: _mish_vjp(grad, input)),
)
def _mish(input):
    return input * np.tanh(np.logaddexp(np.zeros_like(input), input))


@op(where=F, composite=True)
def mish(input, inplace=False):
    return _inplace("_mish", input) if inplace else _mish(input)


_ROOT_HALF, _INV_ROOT_TAU = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
_BETA, _KAPPA = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel, Gaussian Error Linear Units


def _cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + _erf_wide(x * np.sqrt(np.asarray(0.5, x.dtype))))


def _pdf(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.asarray("3.14159265358979323846264338327950288", x.dtype))


def _tanh_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    beta, kappa = np.sqrt(2 / np.asarray("3.14159265358979323846264338327950288", x.dtype)), np.asarray(_KAPPA, x.dtype)
    inner = np.clip(beta * (x + kappa * x * x * x), -1e4, 1e4)
    return np.tanh(inner), beta * (1 + 3 * kappa * x * x)


def _gelu_array(x: np.ndarray, approximate: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        out = x * (_cdf(x) if approximate == "none" else 0.5 * (1 + _tanh_parts(x)[0]))
    return np.asarray(out, x.dtype)


def _gelu_slope(x: np.ndarray, approximate: str) -> np.ndarray:
    if approximate == "none":
        return _cdf(x) + x * _pdf(x)
    t, slope = _tanh_parts(x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope


def _gelu_slope_scale(x: np.ndarray, approximate: str) -> np.ndarray:
    """1 + erf cancels for negative inputs, so an error is relative to 1; the second term is |x| times a rounded exponential of x².

    With tanh, 1 - t² cancels where t is near 1: the error of t (two ulp, and that of its argument) counts |x| times the argument's slope.
    """
    size = np.where(np.isfinite(x), np.abs(x), 0)
    if approximate == "none":
        return 1 + size * _pdf(size) * (2 + size * size)
    t, slope = _tanh_parts(size)
    spread, inner = 1 - t * t, np.arctanh(np.minimum(t, 1 - 2.0**-53))
    off = np.where(size > 12, 0, 4 * t + 5 * spread * inner)  # beyond, tanh is exactly 1 in every dtype
    return (3 + off + size * slope * (off + 2 * spread)) / 3


def _check_approximate(input: Any, approximate: str = "none") -> None:
    if approximate not in ("none", "tanh"):
        raise error("gelu_approximate")


def _tanh_graph(input):
    t = (_BETA * (input + _KAPPA * input.pow(3))).tanh()
    return t, _BETA * (1 + 3 * _KAPPA * input * input), 6 * _BETA * _KAPPA * input


def _gelu_second(product, input, approximate):
    """The second derivative: φ(x)(2 - x²), or that of the tanh formula."""
    if approximate == "none":
        return product * ((-0.5 * input * input).exp() * _INV_ROOT_TAU) * (2 - input * input)
    t, slope, curve = _tanh_graph(input)
    spread = 1 - t * t
    return product * (spread * slope + 0.5 * input * (spread * curve - 2 * t * spread * slope * slope))


@op(
    **_KERNEL,
    ulps=6.0,
    flushes=True,
    reason="erf or tanh and exp within 2 ulp of rounded arguments, sums and products",
    scale=lambda grad_output, input, approximate: np.abs(grad_output) * _gelu_slope_scale(input, approximate),
    vjp=dict(
        grad_output=lambda grad, input, approximate: gelu_backward(grad, input, approximate),
        input=lambda grad, grad_output, input, approximate: _gelu_second(grad * grad_output, input, approximate),
    ),
)
def gelu_backward(grad_output, input, approximate):
    return grad_output * _gelu_slope(input, approximate)


@op(
    where=F,
    ulps=4.0,
    flushes=True,
    reason="erf or tanh within 2 ulp of a rounded argument; 1 + erf cancels, so the error is relative to |x|",
    scale=lambda input, approximate: np.where(np.isfinite(input), np.abs(input), 0),
    refuses=_floats("GeluKernelImpl"),
    check=_check_approximate,
    vjp=dict(input=lambda grad, input, approximate: gelu_backward(grad, input, approximate)),
)
def gelu(input, approximate="none"):
    return _gelu_array(input, approximate)


# --- piecewise linear -------------------------------------------------------------------------------------------------


@op(
    **_KERNEL,
    **SELECTION,
    scalars=("min_val", "max_val"),
    vjp=dict(
        grad_output=lambda grad, input, min_val, max_val: hardtanh_backward(grad, input, min_val, max_val),
        input=lambda grad: zeros_like(grad),
    ),
)
def hardtanh_backward(grad_output, input, min_val, max_val):
    return np.where((input > min_val) & (input < max_val), grad_output, np.zeros((), grad_output.dtype))


@op(
    name="_hardtanh",
    **_PRIVATE,
    **SELECTION,
    scalars=("min_val", "max_val"),
    inplace=True,
    refuses=refusal("hardtanh_bool"),
    vjp=dict(input=lambda grad, input, min_val, max_val: hardtanh_backward(grad, input, min_val, max_val)),
)
def _hardtanh(input, min_val, max_val):
    return np.minimum(np.maximum(input, min_val), max_val)


@op(where=F, composite=True)
def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    if min_val > max_val:
        raise error("hardtanh_bounds")
    if input.dtype is _dtypes.uint8 and (min_val < 0 or max_val < 0):
        raise error("hardtanh_unsigned")
    return _inplace("_hardtanh", input, min_val, max_val) if inplace else _hardtanh(input, min_val, max_val)


@op(where=F, composite=True)
def relu6(input, inplace=False):
    return _inplace("_hardtanh", input, 0, 6) if inplace else _hardtanh(input, 0, 6)


@op(**_KERNEL, ulps=2.0, reason="a product with a rounded 1/6", vjp=dict(grad_output=lambda grad: grad, input=lambda grad: grad))
def hardsigmoid_backward(grad_output, input):
    return np.where((input > -3) & (input < 3), grad_output / 6, np.zeros((), grad_output.dtype))


not_implemented("hardsigmoid_backward")


@op(
    name="_hardsigmoid",
    **_PRIVATE,
    inplace=True,
    ulps=1.0,
    refuses=_floats("hardsigmoid_cpu"),
    reason="a sum and a quotient",
    scale=lambda input: np.where(np.isfinite(input), np.clip(np.abs(input) + 3, 0, 6), 1) / 3,
    vjp=dict(input=lambda grad, input: hardsigmoid_backward(grad, input)),
)
def _hardsigmoid(input):
    return np.minimum(np.maximum(input + 3, 0), 6) / 6


@op(where=F, composite=True)
def hardsigmoid(input, inplace=False):
    return _inplace("_hardsigmoid", input) if inplace else _hardsigmoid(input)


def _hardswish_second(product, input):
    return where((input > -3).logical_and(input < 3), product / 3, 0)


@op(
    **_KERNEL,
    ulps=3.0,
    reason="a quotient, a sum, a product",
    scale=lambda grad_output, input: np.abs(grad_output) * np.minimum(np.abs(input) / 3 + 0.5, 1.5),
    vjp=dict(
        grad_output=lambda grad, input: hardswish_backward(grad, input),
        input=lambda grad, grad_output, input: _hardswish_second(grad * grad_output, input),
    ),
)
def hardswish_backward(grad_output, input):
    rising = grad_output * (input / 3 + np.asarray(0.5, input.dtype))
    return np.where(input <= -3, np.zeros((), grad_output.dtype), np.where(input >= 3, grad_output, rising))


@op(
    name="_hardswish",
    **_PRIVATE,
    inplace=True,
    ulps=4.0,
    refuses=_floats("hardswish_cpu"),
    reason="a sum, a product, a quotient",
    vjp=dict(input=lambda grad, input: hardswish_backward(grad, input)),
)
def _hardswish(input):
    return input * (np.minimum(np.maximum(input + 3, 0), 6) / 6)


@op(where=F, composite=True)
def hardswish(input, inplace=False):
    return _inplace("_hardswish", input) if inplace else _hardswish(input)


@op(where=F, composite=True)
def softsign(input):
    return input / (input.abs() + 1)


@op(where=F, composite=True)
def tanhshrink(input):
    return input - input.tanh()


# --- softmax ----------------------------------------------------------------------------------------------------------


def _axis(input: np.ndarray, dim: int) -> int | None:
    """``dim`` as an axis; None for 0-d, where the one element is all there is."""
    dims = normal_dims(dim, input.ndim)
    return dims[0] if dims else None


def _length(input: np.ndarray, dim: int) -> int:
    axis = _axis(input, dim)
    return 1 if axis is None else input.shape[axis]


def _total(input: np.ndarray, dim: int) -> np.ndarray:
    axis = _axis(input, dim)
    return input if axis is None else np.add.reduce(input, axis=axis, keepdims=True)


def _below_top(input: np.ndarray, dim: int) -> np.ndarray:
    axis = _axis(input, dim)
    return input - (input if axis is None else np.max(input, axis=axis, keepdims=True, initial=-np.inf))


def _softmax_array(input: np.ndarray, dim: int) -> np.ndarray:
    powers = np.exp(_below_top(input, dim))
    return powers / _total(powers, dim)


def _zeros_if_none(radius: Any, like: np.ndarray) -> np.ndarray:
    return np.zeros(like.shape) if radius is None else np.broadcast_to(radius, like.shape)


def _softmax_radius(arguments, radii, results, nominal):
    """exp of a rounded difference (its size counts), a sum of positive terms, a quotient; kernels flush exp below the normal range."""
    input, dim = arguments
    result = np.asarray(results[0], np.float64)
    roundings = 7 + sum_ulps(_length(input, dim)) + _finite(_below_top(input, dim))
    own = result * roundings * nominal.unit + nominal.eta / (2 * nominal.unit)
    carried = _zeros_if_none(radii[0], input)
    return own + result * (carried + _total(result * carried, dim))


def _log_softmax_radius(arguments, radii, results, nominal):
    """x - max - log(sum): each difference is rounded, and the sum's relative error becomes absolute."""
    input, dim = arguments
    below, result = _finite(_below_top(input, dim)), _softmax_array(np.asarray(input, np.float64), dim)
    log_sum = np.log(_total(np.exp(np.asarray(_below_top(input, dim), np.float64)), dim))
    absolute = 4 + sum_ulps(_length(input, dim)) + _total(result * below, dim) + 2 * below + 3 * np.abs(log_sum) + _finite(results[0])
    carried = _zeros_if_none(radii[0], input)
    return np.broadcast_to(absolute * nominal.unit + carried + _total(result * carried, dim), input.shape) + nominal.eta


def _softmax_backward_radius(arguments, radii, results, nominal):
    grad, output, dim = arguments
    both = np.abs(grad * output)
    total, signed = _total(both, dim), np.abs(grad - _total(grad * output, dim))
    n = sum_ulps(_length(output, dim))
    own = np.abs(output) * ((n + 1) * total + 2 * signed + np.abs(grad)) * nominal.unit + 2 * nominal.eta
    g, o = _zeros_if_none(radii[0], grad), _zeros_if_none(radii[1], output)
    return own + np.abs(output) * (g + _total(np.abs(output) * g + np.abs(grad) * o, dim)) + signed * o


def _log_softmax_backward_radius(arguments, radii, results, nominal):
    grad, output, dim = arguments
    total, powers = _total(grad, dim), np.exp(output)
    n = sum_ulps(_length(output, dim))
    own = (powers * ((n + 6) * _total(np.abs(grad), dim)) + np.abs(grad)) * nominal.unit + nominal.eta / (2 * nominal.unit) * (
        1 + np.abs(total)
    )
    g, o = _zeros_if_none(radii[0], grad), _zeros_if_none(radii[1], output)
    return own + g + powers * _total(g, dim) + powers * np.abs(total) * o


_SOFTMAX_KERNEL = {**_PRIVATE, "tensors": ("grad_output", "output"), "memory_order": "contiguous"}


@op(
    **_SOFTMAX_KERNEL,
    name="_softmax_backward_data",
    radius=_softmax_backward_radius,
    reason="a sum of products, relative to the sum of magnitudes",
    vjp=dict(
        grad_output=lambda grad, output, dim: _softmax_backward_data(grad, output, dim),
        output=lambda grad, grad_output, output, dim: _softmax_second(grad, grad_output, output, dim),
    ),
)
def _softmax_backward_data(grad_output, output, dim):
    return output * (grad_output - _total(grad_output * output, dim))


def _softmax_second(grad, grad_output, output, dim):
    inner = (output * grad_output).sum(dim, True)
    return grad_output * grad - inner * grad - grad_output * (output * grad).sum(dim, True)


@op(
    **_SOFTMAX_KERNEL,
    name="_log_softmax_backward_data",
    radius=_log_softmax_backward_radius,
    reason="a sum, an exponential, a product, a difference",
    vjp=dict(
        grad_output=lambda grad, output, dim: grad - (grad * output.exp()).sum(dim, True),
        output=lambda grad, grad_output, output, dim: -grad_output.sum(dim, True) * output.exp() * grad,
    ),
)
def _log_softmax_backward_data(grad_output, output, dim):
    return grad_output - np.exp(output) * _total(grad_output, dim)


_SOFTMAX = {**_PRIVATE, "iterates": False, "reason": "exp within 2 ulp of rounded differences, order of summation"}


@op(
    name="_softmax", **_SOFTMAX, radius=_softmax_radius, vjp=dict(input=lambda grad, result, dim: _softmax_backward_data(grad, result, dim))
)
def _softmax(input, dim):
    return np.asarray(_softmax_array(input, dim), order="C")


@op(
    name="_log_softmax",
    **_SOFTMAX,
    radius=_log_softmax_radius,
    vjp=dict(input=lambda grad, result, dim: _log_softmax_backward_data(grad, result, dim)),
)
def _log_softmax(input, dim):
    below = _below_top(input, dim)
    return np.asarray(below - np.log(_total(np.exp(below), dim)), order="C")


def _prepared(name, input, dim, dtype):
    """The input in the dtype asked for, after the checks that torch makes."""
    input = input if dtype is None else input.to(dtype)
    dims = normal_dims(dim, input._data.ndim)
    if input.dtype.category != FLOAT:
        last = not dims or dims[0] == input._data.ndim - 1
        no_kernel(f"{name}_lastdim_kernel_impl" if last else f"{name}_kernel_impl", BOOL, INT)(input.dtype, [])
    return input


@op(composite=True, also=(F, "special"))
def softmax(input, dim, dtype=None):
    return _softmax(_prepared("softmax", input, dim, dtype), dim)


@op(composite=True, also=(F, "special"))
def log_softmax(input, dim, dtype=None):
    return _log_softmax(_prepared("log_softmax", input, dim, dtype), dim)


@op(where=F, composite=True)
def softmin(input, dim=None, _stacklevel=3, dtype=None):
    if dim is None:  # deprecated, as torch warns: chosen by the number of dims
        dim = 0 if input._data.ndim in (0, 1, 3) else 1
    return _softmax(_prepared("softmax", -input, dim, dtype), dim)
