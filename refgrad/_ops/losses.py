"""Losses of ``torch.nn.functional``.

A pointwise loss is one entry: the loss of each element, then the reduction. Its gradient is a private entry, as in torch, so that further
derivatives follow. Allowances: roundings of one element, relative to the magnitudes that the element is computed from; then the order of
summation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import broadcast_shapes, no_kernel, reaches_autograd
from refgrad._dtypes import BOOL, FLOAT, INT
from refgrad._errors import declare, error
from refgrad._exact import own_radius
from refgrad._grad_mode import GRAD, MODE
from refgrad._ops.activation import F, _logistic, log_sigmoid_array
from refgrad._ops.binary import _div_number
from refgrad._ops.comparison import where
from refgrad._ops.reduction import sum_ulps
from refgrad._ops.unary import zeros_like
from refgrad._table import TABLE, op
from refgrad._tensor import Size

_CLASSES = "weight tensor should be defined either for all {count} classes or no classes but got weight tensor of shape: {shape}"
declare("loss_reduction", ValueError, "{reduction} is not a valid value for reduction")
declare("smooth_l1_beta", RuntimeError, "smooth_l1_loss does not support negative values for beta.")
declare("huber_delta", RuntimeError, "huber_loss does not support non-positive values for delta.")
declare("loss_weight_size", ValueError, "Weights and input must have the same size.")
declare("bce_domain", RuntimeError, "all elements of {name} should be between 0 and 1")
declare("found_dtype", RuntimeError, "Found dtype {found} but expected {expected}")
declare(
    "bce_size",
    ValueError,
    "Using a target size ({target}) that is different to the input size ({input}) is deprecated. Please ensure they have the same size.",
)
declare("bce_logits_size", ValueError, "Target size ({target}) must be the same as input size ({input})")
declare(
    "bce_weight_size",
    RuntimeError,
    "Attempting to broadcast a dimension of length {n} at {dim}! Mismatching argument at index 1 had {weight}; but expected "
    "shape should be broadcastable to {shape}",
)
declare("nll_dims", ValueError, "Expected 1 or more dimensions (got 0)")
declare("nll_batch", ValueError, "Expected input batch_size ({input}) to match target batch_size ({target}).")
declare("nll_target_dtype", RuntimeError, "expected target dtype to be Long or Byte, but got {dtype}")
declare("nll_multi_target", RuntimeError, "0D or 1D target tensor expected, multi-target not supported")
declare("nll_weight", RuntimeError, _CLASSES)
declare("nll2d_weight", RuntimeError, "weight tensor should be defined either for all or no classes")
declare("nll_weight_dtype", RuntimeError, "expected scalar type {input} but found {weight}")
declare(
    "loss_weight_grad",
    RuntimeError,
    "The function '{function}' is not differentiable with respect to argument '{argument}'. This input cannot have requires_grad True.",
)
declare("nll_bounds", IndexError, "Target {target} is out of bounds.")
declare("nll_nd_size", RuntimeError, "Expected target size {expected}, got {target}")
declare("nll2d_dims", RuntimeError, "only batches of spatial targets supported (3D tensors) but got targets of dimension: {ndim}")
declare("nll2d_size", RuntimeError, "size mismatch (got input: {input} , target: {target}")
declare("cross_entropy_target", RuntimeError, "Expected floating point type for target with class probabilities, got {dtype}")
declare("cross_entropy_ignore", RuntimeError, "ignore_index is not supported for floating point target")
declare("cross_entropy_smoothing", RuntimeError, "label_smoothing must be between 0.0 and 1.0. Got: {smoothing:g}")
declare("cross_entropy_weight", RuntimeError, "cross_entropy: " + _CLASSES)
declare("kl_div_integers", RuntimeError, "kl_div: Integral inputs not supported.")

_PRIVATE = {"function": False, "method": False}


# --- what all of them share -------------------------------------------------------------------------------------------


def _reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, after the arguments that it replaced."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", UserWarning, stacklevel=4
        )
    elif reduction not in ("none", "mean", "sum"):
        raise error("loss_reduction", reduction=reduction)
    return reduction


def _reduced(losses: np.ndarray, reduction: str) -> np.ndarray:
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total if reduction == "sum" else total / np.asarray(losses.size, losses.dtype)


def _share(reduction: str, count: int) -> float:
    """What one element's gradient is divided by."""
    return float(count) if reduction == "mean" else 1.0


def _reduced_radius(losses: np.ndarray, errors: Any, reduction: str, nominal: _dtypes.dtype) -> Any:
    """The radius of a reduction of losses that carry ``errors``: these add up, and so does the rounding of each partial sum."""
    errors = np.broadcast_to(errors, losses.shape)
    if reduction == "none":
        return errors
    total = np.add.reduce(errors, axis=None) + own_radius(sum_ulps(losses.size) + 2, np.add.reduce(np.abs(losses), axis=None), nominal)
    return total / max(losses.size, 1) if reduction == "mean" else total


def _pointwise_radius(
    element: Callable[..., Any], ulps: float, magnitude: Callable[..., Any], slopes: Callable[..., Any]
) -> Callable[..., Any]:
    """The ``radius`` of a pointwise loss.

    ``element`` gives the losses, ``magnitude`` what their rounding is relative to, ``slopes`` |d loss / d operand|.
    """

    def radius(arguments: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
        reduction = next(a for a in arguments if isinstance(a, str))
        values = [a for a in arguments if not isinstance(a, str)]
        errors = own_radius(ulps, _finite(magnitude(*values)), nominal)
        for slope, carried in zip(slopes(*values), radii, strict=False):
            errors = errors if carried is None else errors + np.abs(slope) * carried
        return _reduced_radius(element(*values), errors, reduction, nominal)

    return radius


def _finite(array: Any) -> Any:
    return np.where(np.isfinite(array), np.abs(array), 0)


def _same_shape(input: Any, target: Any) -> tuple[Any, Any]:
    """Both at their broadcast shape, with torch's warning where they differ."""
    a, b = input._data.shape, target._data.shape
    if a == b:
        return input, target
    warnings.warn(
        f"Using a target size ({Size(b)!r}) that is different to the input size ({Size(a)!r}). This will likely lead to "
        f"incorrect results due to "
        "broadcasting. Please ensure they have the same size.",
        UserWarning,
        stacklevel=4,
    )
    shape = broadcast_shapes(a, b)
    return (input if a == shape else input.expand(shape)), (target if b == shape else target.expand(shape))


def _weighted_mean(losses: Any, weight: Any, reduction: str) -> Any:
    weighted = losses * weight
    if reduction == "none":
        return weighted
    return weighted.sum() if reduction == "sum" else weighted.sum() / weight.sum()


def _same_size(weight: Any, input: Any) -> None:
    if weight._data.shape != input._data.shape:
        raise error("loss_weight_size")


def _no_gradient(function: str, *operands: Any, **arguments: Any) -> None:
    """Raises torch's error for an argument that requires grad, where the function gives it none."""
    if not reaches_autograd([*operands, *arguments.values()]):
        return
    for name, value in arguments.items():
        if value is not None and value.requires_grad and MODE.mode == GRAD and not MODE.inference:
            raise error("loss_weight_grad", function=function, argument=name)


def _reduce_tensor(losses: Any, reduction: str) -> Any:
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


_KERNEL = {**_PRIVATE, "tensors": ("grad_output", "input", "target")}


def _divided(product: Any, reduction: str, shape: tuple[int, ...]) -> Any:
    return _div_number(product, _numel(shape)) if reduction == "mean" else product


def _numel(shape: tuple[int, ...]) -> int:
    return Size(shape).numel()


# --- mse_loss ---------------------------------------------------------------------------------------------------------


@op(
    name="mse_loss_backward",
    **_KERNEL,
    memory_order="contiguous",
    ulps=5.0,
    reason="a difference, two products, a quotient",
    vjp=dict(
        grad_output=lambda grad, input, target, reduction: _mse_backward(grad, input, target, reduction),
        input=lambda grad, grad_output, reduction, input_shape: _divided(2 * (grad * grad_output), reduction, input_shape),
        target=lambda grad, grad_output, reduction, input_shape: -_divided(2 * (grad * grad_output), reduction, input_shape),
    ),
)
def _mse_backward(grad_output, input, target, reduction):
    return grad_output * (2 / _share(reduction, input.size or 1)) * (input - target)


@op(
    name="_mse_loss",
    **_PRIVATE,
    refuses=no_kernel("mse_cpu", BOOL, INT),
    reason="a difference and its square, then the order of summation",
    radius=_pointwise_radius(lambda x, y: (x - y) ** 2, 3.0, lambda x, y: (x - y) ** 2, lambda x, y: (2 * (x - y), 2 * (x - y))),
    vjp=dict(
        input=lambda grad, input, target, reduction: _mse_backward(grad, input, target, reduction),
        target=lambda grad, input, target, reduction: _mse_backward(grad, target, input, reduction),
    ),
)
def _mse_loss(input, target, reduction):
    return _reduced((input - target) ** 2, reduction)


@op(where=F, composite=True)
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    x, y = _same_shape(input, target)
    reduction = _reduction(size_average, reduce, reduction)
    if weight is None:
        return _mse_loss(x, y, reduction)
    _same_size(weight, input)
    return _weighted_mean((x - y).pow(2), weight, reduction)


# --- l1_loss, smooth_l1_loss, huber_loss ------------------------------------------------------------------------------


@op(where=F, composite=True)
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    x, y = _same_shape(input, target)
    reduction = _reduction(size_average, reduce, reduction)
    if weight is None:
        return _reduce_tensor((x - y).abs(), reduction)
    _same_size(weight, input)
    return _weighted_mean((x - y).abs(), weight, reduction)


def _smooth_l1_array(x: np.ndarray, y: np.ndarray, beta: Any) -> np.ndarray:
    gap = np.abs(x - y)
    return np.where(gap < beta, gap * gap / (2 * beta), gap - beta / 2)


def _smooth_l1_magnitude(x: np.ndarray, y: np.ndarray, beta: float) -> np.ndarray:
    gap = np.abs(x - y)
    return np.where(gap < beta, gap * gap / beta, gap + beta)


def _smooth_l1_slopes(x: np.ndarray, y: np.ndarray, beta: float) -> tuple[Any, Any]:
    slope = np.clip((x - y) / beta, -1, 1)
    return slope, slope


def _near(product, input, target, limit, factor, reduction, shape):
    """The second derivative of both: ``factor`` where the two are nearer than ``limit``."""
    inside = (input - target).abs() < limit
    zero = zeros_like(product)
    return _divided(product * where(inside, zero + factor, zero), reduction, shape)


@op(
    name="smooth_l1_loss_backward",
    **_KERNEL,
    memory_order="contiguous",
    scalars=("beta",),
    ulps=5.0,
    reason="a difference, two products, a quotient",
    vjp=dict(
        grad_output=lambda grad, input, target, reduction, beta: _smooth_l1_backward(grad, input, target, reduction, beta),
        input=lambda grad, grad_output, input, target, reduction, beta, input_shape: _near(
            grad * grad_output, input, target, beta, 1 / beta, reduction, input_shape
        ),
        target=lambda grad, grad_output, input, target, reduction, beta, input_shape: (
            -_near(grad * grad_output, input, target, beta, 1 / beta, reduction, input_shape)
        ),
    ),
)
def _smooth_l1_backward(grad_output, input, target, reduction, beta):
    norm, gap = np.asarray(1 / _share(reduction, input.size or 1), input.dtype), input - target
    return np.where(np.abs(gap) >= beta, np.sign(gap) * norm * grad_output, norm * gap * grad_output / beta)


@op(
    name="_smooth_l1_loss",
    node="SmoothL1LossBackward0",
    **_PRIVATE,
    scalars=("beta",),
    refuses=no_kernel("smooth_l1_cpu", BOOL, INT),
    radius=_pointwise_radius(_smooth_l1_array, 4.0, _smooth_l1_magnitude, _smooth_l1_slopes),
    reason="four roundings, then the order of summation",
    vjp=dict(
        input=lambda grad, input, target, reduction, beta: _smooth_l1_backward(grad, input, target, reduction, beta),
        target=lambda grad, input, target, reduction, beta: _smooth_l1_backward(grad, target, input, reduction, beta),
    ),
)
def _smooth_l1_loss(input, target, reduction, beta):
    return _reduced(_smooth_l1_array(input, target, beta), reduction)


@op(where=F, composite=True)
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    x, y = _same_shape(input, target)
    reduction = _reduction(size_average, reduce, reduction)
    if beta < 0:
        raise error("smooth_l1_beta")
    return _reduce_tensor((x - y).abs(), reduction) if beta == 0 else _smooth_l1_loss(x, y, reduction, float(beta))


def _huber_array(x: np.ndarray, y: np.ndarray, delta: Any) -> np.ndarray:
    gap = np.abs(x - y)
    return np.where(gap <= delta, gap * gap / 2, delta * (gap - delta / 2))


def _huber_magnitude(x: np.ndarray, y: np.ndarray, delta: float) -> np.ndarray:
    gap = np.abs(x - y)
    return np.where(gap <= delta, gap * gap, delta * (gap + delta))


def _input_dtype(nominal: _dtypes.dtype, input: Any) -> _dtypes.dtype:
    return input.dtype if input.dtype.category == FLOAT else nominal


def _huber_slopes(x: np.ndarray, y: np.ndarray, delta: float) -> tuple[Any, Any]:
    slope = np.clip(x - y, -delta, delta)
    return slope, slope


@op(
    name="huber_loss_backward",
    **_KERNEL,
    memory_order="contiguous",
    check=lambda grad_output, input, target, reduction, delta: _check_same(grad_output, input, target),
    scalars=("delta",),
    ulps=5.0,
    reason="a difference, two products, a quotient",
    vjp=dict(
        grad_output=lambda grad, input, target, reduction, delta: _huber_backward(grad, input, target, reduction, delta),
        input=lambda grad, grad_output, input, target, reduction, delta, input_shape: _near(
            grad * grad_output, input, target, delta, 1, reduction, input_shape
        ),
        target=lambda grad, grad_output, input, target, reduction, delta, input_shape: (
            -_near(grad * grad_output, input, target, delta, 1, reduction, input_shape)
        ),
    ),
)
def _huber_backward(grad_output, input, target, reduction, delta):
    norm = np.asarray(1 / _share(reduction, input.size or 1), input.dtype)
    return norm * np.clip(input - target, -delta, delta) * grad_output


def _refuse_huber(nominal: _dtypes.dtype, values: list[Any]) -> None:
    """The result has the input's dtype, whatever the target's is."""
    if values[0].dtype.category < nominal.category:
        raise error("result_cast", result=nominal.scalar_type, output=values[0].dtype.scalar_type)
    no_kernel("huber_cpu", BOOL, INT)(nominal, values)


@op(
    name="_huber_loss",
    **_PRIVATE,
    memory_order="input",
    scalars=("delta",),
    refuses=_refuse_huber,
    result_dtype=lambda nominal, bound: _input_dtype(nominal, bound[0]),
    radius=_pointwise_radius(_huber_array, 4.0, _huber_magnitude, _huber_slopes),
    reason="four roundings, then the order of summation",
    vjp=dict(
        input=lambda grad, input, target, reduction, delta: _huber_backward(grad, input, target, reduction, delta),
        target=lambda grad, input, target, reduction, delta: _huber_backward(grad, target, input, reduction, delta),
    ),
)
def _huber_loss(input, target, reduction, delta):
    return _reduced(_huber_array(input, target, delta), reduction)


@op(where=F, composite=True)
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    x, y = _same_shape(input, target)
    reduction = _reduction(None, None, reduction)
    if delta <= 0:
        raise error("huber_delta")
    if weight is None:
        return _huber_loss(x, y, reduction, float(delta))
    _same_size(weight, input)
    return _reduce_tensor(_huber_loss(x, y, "none", float(delta)) * weight, reduction)


# --- binary cross entropy ---------------------------------------------------------------------------------------------

_BCE = {"unpromoted": ("weight", "pos_weight")}


def _check_same(grad_output: Any, input: Any, target: Any, *others: Any) -> None:
    if target.dtype is not input.dtype:
        raise error("found_dtype", found=target.dtype.scalar_type, expected=input.dtype.scalar_type)


def _times(weight: Any, value: np.ndarray) -> np.ndarray:
    return value if weight is None else value * weight.astype(value.dtype)


def _bce_array(x: np.ndarray, y: np.ndarray, weight: Any) -> np.ndarray:
    """Each logarithm is bounded by -100, as torch documents."""
    loss = (y - 1) * np.maximum(np.log1p(-x), -100) - y * np.maximum(np.log(x), -100)
    return np.where(np.isnan(x), x, _times(weight, loss))


def _bce_magnitude(x: np.ndarray, y: np.ndarray, weight: Any) -> np.ndarray:
    log, other = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
    return np.abs(_times(weight, np.abs(y * log) + np.abs(1 - y) * (np.abs(other) + 0.5)))


def _bce_slopes(x: np.ndarray, y: np.ndarray, weight: Any) -> tuple[Any, Any]:
    return (
        _times(weight, (x - y) / np.maximum((1 - x) * x, 1e-12)),
        _times(weight, np.maximum(np.log1p(-x), -100) - np.maximum(np.log(x), -100)),
    )


def _bce_second(grad, grad_output, input, target, weight, reduction, shape):
    """d/dx of (x - y) / (x (1 - x)) is (x² - 2xy + y) / (x (1 - x))²."""
    spread = (input - input * input).clamp(min=1e-12)
    out = (input * input - 2 * input * target + target) / (spread * spread) * grad_output * grad
    return _divided(out if weight is None else out * weight, reduction, shape)


def _bce_second_target(grad, grad_output, input, weight, reduction, shape):
    out = -grad * grad_output / (input - input * input).clamp(min=1e-12)
    return _divided(out if weight is None else out * weight, reduction, shape)


@op(
    name="binary_cross_entropy_backward",
    memory_order="input",
    **(_PRIVATE | {"tensors": ("grad_output", "input", "target", "weight")}),
    unpromoted=("weight",),
    ulps=8.0,
    reason="two differences, three products, a quotient",
    vjp=dict(
        grad_output=lambda grad, input, target, weight, reduction: _bce_backward(grad, input, target, weight, reduction),
        input=lambda grad, grad_output, input, target, weight, reduction, input_shape: _bce_second(
            grad, grad_output, input, target, weight, reduction, input_shape
        ),
        target=lambda grad, grad_output, input, weight, reduction, input_shape: _bce_second_target(
            grad, grad_output, input, weight, reduction, input_shape
        ),
    ),
)
def _bce_backward(grad_output, input, target, weight, reduction):
    slope = (input - target) / np.maximum((1 - input) * input, np.asarray(1e-12, input.dtype))
    return _times(weight, grad_output * slope) / np.asarray(_share(reduction, input.size or 1), input.dtype)


def _bce_target(grad, input, weight, reduction, shape):
    out = grad * ((1 - input).log() - input.log())
    return _divided(out if weight is None else out * weight, reduction, shape)


def _check_bce(input: Any, target: Any, weight: Any, reduction: str) -> None:
    _check_same(None, input, target)
    if input.dtype.category == FLOAT:
        for name, value in (("input", input), ("target", target)):
            if not np.all((value._data >= 0) & (value._data <= 1)):
                raise error("bce_domain", name=name)


@op(
    name="_binary_cross_entropy",
    **_PRIVATE,
    memory_order="input",
    unpromoted=("weight",),
    check=_check_bce,
    refuses=no_kernel("binary_cross_entropy", BOOL, INT),
    radius=_pointwise_radius(_bce_array, 7.0, _bce_magnitude, _bce_slopes),
    reason="two logarithms within 1 ulp, three products, a sum",
    vjp=dict(
        input=lambda grad, input, target, weight, reduction: _bce_backward(grad, input, target, weight, reduction),
        target=lambda grad, input, target, weight, reduction, input_shape: _bce_target(grad, input, weight, reduction, input_shape),
    ),
)
def _binary_cross_entropy(input, target, weight, reduction):
    return _reduced(_bce_array(input, target, weight), reduction)


def _expanded_weight(weight: Any, target: Any) -> Any:
    if weight is None:
        return None
    shape, own = target._data.shape, weight._data.shape
    for back in range(1, min(len(shape), len(own)) + 1):
        if own[-back] != shape[-back] and 1 not in (own[-back], shape[-back]):
            raise error("bce_weight_size", n=own[-back], dim=-back, weight=repr(Size(own)), shape=list(shape))
    return weight.expand(broadcast_shapes(shape, own))


@op(where=F, composite=True)
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    reduction = _reduction(size_average, reduce, reduction)
    if target._data.shape != input._data.shape:
        raise error("bce_size", target=repr(target.shape), input=repr(input.shape))
    weight = _expanded_weight(weight, target)
    _no_gradient("binary_cross_entropy", input, target, weight=weight)
    return _binary_cross_entropy(input, target, weight, reduction)


def _log_weight(y: Any, pos_weight: Any) -> Any:
    """What multiplies the logarithm of the sigmoid: 1 + (pos_weight - 1) y."""
    return 1 if pos_weight is None else (pos_weight - 1) * y + 1


def _logits_array(x: np.ndarray, y: np.ndarray, weight: Any, pos_weight: Any) -> np.ndarray:
    return _times(weight, (1 - y) * x - _log_weight(y, None if pos_weight is None else pos_weight.astype(x.dtype)) * log_sigmoid_array(x))


def _logits_magnitude(x: np.ndarray, y: np.ndarray, weight: Any, pos_weight: Any) -> np.ndarray:
    factor = 1 if pos_weight is None else (np.abs(pos_weight.astype(x.dtype)) + 1) * np.abs(y) + 1
    return np.abs(_times(weight, np.abs(1 - y) * np.abs(x) + factor * np.abs(log_sigmoid_array(x))))


def _logits_slopes(x: np.ndarray, y: np.ndarray, weight: Any, pos_weight: Any) -> tuple[Any, Any]:
    p = None if pos_weight is None else pos_weight.astype(x.dtype)
    to_y = -x if p is None else -x - (p - 1) * log_sigmoid_array(x)
    return _times(weight, (1 - y) - _log_weight(y, p) * _logistic(-x)), _times(weight, to_y)


def _refuse_integer_logits(nominal: _dtypes.dtype, values: list[Any]) -> None:
    no_kernel("log_sigmoid_cpu", BOOL, INT)(values[0].dtype, values)


def _logits_input(grad, input, target, weight, pos_weight, reduction, shape):
    if pos_weight is None:
        out = (input.sigmoid() - target) * grad
    else:
        t = pos_weight * target
        out = ((t + 1 - target) * input.sigmoid() - t) * grad
    return _divided(out if weight is None else out * weight, reduction, shape)


def _logits_target(grad, input, weight, pos_weight, reduction, shape):
    if pos_weight is None:
        out = -input * grad
    else:
        log_sigmoid = TABLE["logsigmoid"].public
        out = (log_sigmoid(-input) - pos_weight * log_sigmoid(input)) * grad
    return _divided(out if weight is None else out * weight, reduction, shape)


@op(
    name="_binary_cross_entropy_with_logits",
    node="BinaryCrossEntropyWithLogitsBackward0",
    **_PRIVATE,
    **_BCE,
    memory_order="target",
    refuses=_refuse_integer_logits,
    result_dtype=lambda nominal, bound: bound[1].dtype,
    radius=_pointwise_radius(_logits_array, 9.0, _logits_magnitude, _logits_slopes),
    reason="log1p and exp within 2 ulp, products and sums",
    vjp=dict(
        input=lambda grad, input, target, weight, pos_weight, reduction, input_shape: _logits_input(
            grad, input, target, weight, pos_weight, reduction, input_shape
        ),
        target=lambda grad, input, target, weight, pos_weight, reduction, input_shape: _logits_target(
            grad, input, weight, pos_weight, reduction, input_shape
        ),
    ),
)
def _binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction):
    return _reduced(_logits_array(input, target, weight, pos_weight), reduction)


@op(where=F, composite=True)
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    reduction = _reduction(size_average, reduce, reduction)
    if target._data.shape != input._data.shape:
        raise error("bce_logits_size", target=repr(target.shape), input=repr(input.shape))
    _no_gradient("binary_cross_entropy_with_logits", input, target, weight=weight, pos_weight=pos_weight)
    if target.dtype.category == BOOL and input.dtype.category == FLOAT:
        raise error("sub_two_bools")
    if input.dtype.category == FLOAT and target.dtype.category != FLOAT:
        raise error("result_cast", result=input.dtype.scalar_type, output=target.dtype.scalar_type)
    return _binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)


# --- nll_loss ---------------------------------------------------------------------------------------------------------

_CLASS_WEIGHTS = {"unpromoted": ("target", "weight")}


def _class_axis(input: np.ndarray) -> int:
    return 1 if input.ndim > 1 else 0


def _chosen(target: np.ndarray, weight: Any, ignore_index: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Per target its class (0 where ignored) and its weight (0 where ignored)."""
    kept = target != ignore_index
    index = np.where(kept, target, 0).astype(np.int64)
    return index, np.where(kept, np.ones((), dtype) if weight is None else weight.astype(dtype)[index], np.zeros((), dtype))


def _picked(input: np.ndarray, index: np.ndarray) -> np.ndarray:
    axis = _class_axis(input)
    if input.size == 0:
        return np.zeros(index.shape, input.dtype)
    return np.take_along_axis(input, np.expand_dims(index, axis), axis).squeeze(axis)


def _nll_terms(input: np.ndarray, target: np.ndarray, weight: Any, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Per target its loss and its weight."""
    index, weights = _chosen(target, weight, ignore_index, input.dtype)
    return np.where(target != ignore_index, -_picked(input, index) * weights, np.zeros((), input.dtype)), weights


def _nll_array(input: np.ndarray, target: np.ndarray, weight: Any, reduction: str, ignore_index: int) -> np.ndarray:
    losses, weights = _nll_terms(input, target, weight, ignore_index)
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total if reduction == "sum" else total / np.add.reduce(weights, axis=None)


def _nll_radius(arguments, radii, results, nominal):
    """A product, a sum, and a quotient by the sum of weights, each sum relative to its magnitudes."""
    input, target, weight, reduction, ignore_index = arguments
    losses, weights = _nll_terms(input, target, weight, ignore_index)
    errors = own_radius(1.0, losses, nominal)
    if radii[0] is not None:
        errors = errors + np.abs(_nll_terms(np.broadcast_to(radii[0], input.shape), target, weight, ignore_index)[0])
    if reduction == "none":
        return errors
    n = sum_ulps(losses.size)
    total = np.add.reduce(errors, axis=None) + own_radius(n, np.add.reduce(np.abs(losses), axis=None), nominal)
    return total if reduction == "sum" else total / _mass(weights) + own_radius(2 + n * _mass_condition(weights), results[0], nominal)


def _mass(weights: np.ndarray) -> Any:
    mass = np.abs(np.add.reduce(weights, axis=None))
    return np.where(mass == 0, 1, mass)


def _mass_condition(weights: np.ndarray) -> float:
    """How much the sum of the weights cancels."""
    return float(np.add.reduce(np.abs(weights), axis=None) / _mass(weights))


def _nll_backward_array(grad_output, input, target, weight, reduction, ignore_index):
    index, weights = _chosen(target, weight, ignore_index, grad_output.dtype)
    scaled = -grad_output * weights
    if reduction == "mean":
        scaled = scaled / np.add.reduce(weights, axis=None)
    out = np.zeros(input.shape, grad_output.dtype)
    axis = _class_axis(input)
    if out.size:
        np.put_along_axis(out, np.expand_dims(index, axis), np.expand_dims(np.where(target != ignore_index, scaled, 0), axis), axis)
    return out


def _nll_backward_radius(arguments, radii, results, nominal):
    grad_output, input, target, weight, reduction, ignore_index = arguments
    _, weights = _chosen(target, weight, ignore_index, grad_output.dtype)
    roundings = 3.0 if reduction != "mean" else 4.0 + sum_ulps(weights.size) * _mass_condition(weights)
    own = own_radius(roundings, _finite(results[0]), nominal)
    if radii[0] is None:
        return own
    carried = np.broadcast_to(radii[0], grad_output.shape)
    return own + np.abs(_nll_backward_array(carried, input, target, weight, reduction, ignore_index))


def _check_classes(input: Any, target: Any, weight: Any, reduction: str, ignore_index: int, key: str = "nll_weight") -> None:
    if target.dtype.name not in ("int64", "uint8"):
        raise error("nll_target_dtype", dtype=target.dtype.scalar_type)
    count = input._data.shape[_class_axis(input._data)]
    if weight is not None and weight._data.shape != (count,):
        raise error(key, count=count, shape=list(weight._data.shape))
    if weight is not None and input.dtype.category == FLOAT and weight.dtype is not input.dtype:
        raise error("nll_weight_dtype", input=input.dtype.scalar_type, weight=weight.dtype.scalar_type)
    bad = target._data[(target._data != ignore_index) & ((target._data < 0) | (target._data >= count))]
    if bad.size:
        raise error("nll_bounds", target=int(bad.reshape(-1)[0]))


def _check_nll(input: Any, target: Any, weight: Any, reduction: str, ignore_index: int) -> None:
    if target._data.ndim > 1:
        raise error("nll_multi_target")
    _check_classes(input, target, weight, reduction, ignore_index)


def _check_nll2d(input: Any, target: Any, weight: Any, reduction: str, ignore_index: int) -> None:
    a, b = input._data.shape, target._data.shape
    if len(b) != 3:
        raise error("nll2d_dims", ndim=len(b))
    if a[0] != b[0] or a[2:] != b[1:]:
        raise error("nll2d_size", input=list(a), target=list(b))
    _check_classes(input, target, weight, reduction, ignore_index, "nll2d_weight")


_NLL = {
    **_PRIVATE,
    "iterates": False,
    "radius": _nll_radius,
    "refuses": no_kernel("nll_loss_out_frame", BOOL, INT),
    "reason": "products, sums of losses and of weights, a quotient",
}
_NLL_KERNEL = {
    **_PRIVATE,
    "iterates": False,
    "tensors": ("grad_output", "input", "target", "weight"),
    "unpromoted": ("input", "target", "weight"),
    "radius": _nll_backward_radius,
}


@op(
    name="nll_loss_backward",
    **_NLL_KERNEL,
    reason="products and a quotient by a sum of weights",
    vjp=dict(
        grad_output=lambda grad, target, weight, reduction, ignore_index: _nll_loss(grad, target, weight, reduction, ignore_index),
        input=lambda grad: zeros_like(grad),
    ),
)
def _nll_loss_backward(grad_output, input, target, weight, reduction, ignore_index):
    return _nll_backward_array(grad_output, input, target, weight, reduction, ignore_index)


@op(
    name="nll_loss2d_backward",
    **_NLL_KERNEL,
    reason="products and a quotient by a sum of weights",
    vjp=dict(
        grad_output=lambda grad, target, weight, reduction, ignore_index: _nll_loss2d(grad, target, weight, reduction, ignore_index),
        input=lambda grad: zeros_like(grad),
    ),
)
def _nll_loss2d_backward(grad_output, input, target, weight, reduction, ignore_index):
    return _nll_backward_array(grad_output, input, target, weight, reduction, ignore_index)


@op(
    name="_nll_loss",
    **_NLL,
    **_CLASS_WEIGHTS,
    check=_check_nll,
    vjp=dict(
        input=lambda grad, input, target, weight, reduction, ignore_index: _nll_loss_backward(
            grad, input, target, weight, reduction, ignore_index
        )
    ),
)
def _nll_loss(input, target, weight, reduction, ignore_index):
    return _nll_array(input, target, weight, reduction, ignore_index)


@op(
    name="_nll_loss2d",
    **_NLL,
    **_CLASS_WEIGHTS,
    check=_check_nll2d,
    vjp=dict(
        input=lambda grad, input, target, weight, reduction, ignore_index: _nll_loss2d_backward(
            grad, input, target, weight, reduction, ignore_index
        )
    ),
)
def _nll_loss2d(input, target, weight, reduction, ignore_index):
    return _nll_array(input, target, weight, reduction, ignore_index)


def _nll(input: Any, target: Any, weight: Any, reduction: str, ignore_index: int) -> Any:
    """By the number of dims, as torch chooses its kernel."""
    shape, targets = input._data.shape, target._data.shape
    if not shape:
        raise error("nll_dims")
    if len(shape) > 1 and targets[:1] != shape[:1]:
        raise error("nll_batch", input=shape[0], target=targets[0])
    if len(shape) not in (1, 2, 4) and targets[1:] != shape[2:]:
        raise error("nll_nd_size", expected=[shape[0], *shape[2:]], target=list(targets))
    _no_gradient("nll_loss2d_forward" if len(shape) > 2 else "nll_loss_forward", input, target, weight=weight)
    if len(shape) <= 2:
        return _nll_loss(input, target, weight, reduction, ignore_index)
    if len(shape) == 4:
        return _nll_loss2d(input, target, weight, reduction, ignore_index)
    flat = input.contiguous().view(shape[0], shape[1], 1, _numel(shape[2:]))
    out = _nll_loss2d(flat, target.contiguous().view(shape[0], 1, _numel(shape[2:])), weight, reduction, ignore_index)
    return out.view(shape[:1] + shape[2:]) if reduction == "none" else out


@op(where=F, composite=True)
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    return _nll(input, target, weight, _reduction(size_average, reduce, reduction), ignore_index)


# --- cross_entropy ----------------------------------------------------------------------------------------------------


def _along_classes(weight: Any, input: Any, axis: int) -> Any:
    return weight.view([-1 if i == axis else 1 for i in range(input._data.ndim)])


def _log_probabilities(input: Any) -> Any:
    return TABLE["log_softmax"].public(input, _class_axis(input._data))


def _probability_loss(input: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    axis = _class_axis(input._data)
    count = input._data.shape[axis] if input._data.ndim else 1
    if weight is not None and weight._data.shape != (count,):
        raise error("cross_entropy_weight", count=count, shape=list(weight._data.shape))
    log_probabilities: Any = _log_probabilities(input)
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / count
    losses = log_probabilities * target if weight is None else log_probabilities * target * _along_classes(weight, input, axis)
    if reduction == "none":
        return -losses.sum(axis)
    if reduction == "mean" and not input._data.size:
        return -losses.sum().fill_(math.nan)
    return -losses.sum() if reduction == "sum" else _div_number(-losses.sum(), input._data.size // max(count, 1))


def _smoothed_loss(input: Any, target: Any, weight: Any, reduction: str, ignore_index: int, smoothing: float) -> Any:
    """(1 - s) times the loss of the class, s times the mean of all classes' losses."""
    axis = _class_axis(input._data)
    log_probabilities: Any = _log_probabilities(input)
    nll: Any = _nll(log_probabilities, target, weight, reduction, ignore_index)
    weighted = log_probabilities if weight is None else log_probabilities * _along_classes(weight, input, axis)
    ignored = TABLE["eq"].public(target, ignore_index)
    smooth = (-weighted.sum(axis)).masked_fill_(ignored, 0.0)
    if reduction == "sum":
        smooth = smooth.sum()
    elif reduction == "mean" and weight is not None:
        smooth = smooth.sum() / weight.gather(0, target.masked_select(~ignored).flatten()).sum()
    elif reduction == "mean":
        smooth = smooth.masked_select(~ignored).mean()
    return (1 - smoothing) * nll + (smoothing / input._data.shape[axis]) * smooth


@op(where=F, composite=True)
def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    reduction = _reduction(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise error("cross_entropy_smoothing", smoothing=label_smoothing)
    if input._data.shape == target._data.shape:
        if target.dtype.category != FLOAT:
            raise error("cross_entropy_target", dtype=target.dtype.scalar_type)
        if ignore_index >= 0:
            raise error("cross_entropy_ignore")
        return _probability_loss(input, target, weight, reduction, label_smoothing)
    if label_smoothing > 0:
        return _smoothed_loss(input, target, weight, reduction, ignore_index, label_smoothing)
    return _nll(_log_probabilities(input), target, weight, reduction, ignore_index)


# --- kl_div -----------------------------------------------------------------------------------------------------------


@op(where=F, composite=True)
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    batch = reduction == "batchmean"
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' divides only "
            "by the batch size, and aligns "
            "with the KL div math definition.'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            UserWarning,
            stacklevel=2,
        )
    reduction = "sum" if batch else _reduction(size_average, reduce, reduction)
    if input.dtype.category != FLOAT or target.dtype.category != FLOAT:
        raise error("kl_div_integers")
    losses = target.exp() * (target - input) if log_target else target.xlogy(target) - target * input
    out = _reduce_tensor(losses, reduction)
    return out / input._data.shape[0] if batch and input._data.ndim else out
