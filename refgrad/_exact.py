"""The exact mode: ops on balls. Nothing is rounded to the nominal dtype, and every result carries a radius.

A ball is an array one precision up (float64 for up to 32 bits, longdouble for float64) and a radius of the same shape. The radius bounds
the error that a correct implementation **at the nominal dtype** may make when it evaluates the same formula op by op: each op adds ``k · u
· scale``, with u the unit roundoff of the nominal dtype, k the entry's ``ulps`` (in units of u), and ``scale`` the magnitude that the entry
says its error is relative to (the result; or the op applied to absolute values, for sums and products of matrices); what operands carry is
propagated to first order (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3). The wide evaluation makes the same errors
with a unit roundoff at least 2^11 times smaller; that is covered by the factor ``REFERENCE``.

So the same run of the same formulas gives the exact value and the allowance; where a formula uses a rounded result (tanh, softmax), the
ball of that result holds both the subject's rounded one and the true one.

Where balls that are compared overlap, a rounding decides, and either answer is right: the truth value is a ball of radius 1 then. What
chooses by it (where, masked_fill) holds both alternatives.
"""

from __future__ import annotations

import inspect
import threading
from functools import cache
from typing import Any, Final

import numpy as np

from refgrad import _dtypes
from refgrad._dtypes import FLOAT, OF
from refgrad._grad_mode import GRAD, MODE, NO_GRAD
from refgrad._storage import every, some
from refgrad._tensor import Tensor, geometry

REFERENCE: Final = 1 + 2.0**-10
LONG: Final = np.dtype(np.longdouble)


class _WithRadii(threading.local):
    on = True  # off while a formula gives the derivatives that radii are propagated with


_WITH_RADII = _WithRadii()


class ExactTensor(Tensor):
    """A ball: ``_data`` wide, ``_exact`` = (nominal dtype, radius array or None for zero)."""

    @property
    def radius(self) -> np.ndarray:
        radius = self._exact[1]
        return np.zeros(self._data.shape) if radius is None else np.broadcast_to(radius, self._data.shape)


def ball(array: np.ndarray, nominal: _dtypes.dtype | None = None, radius: np.ndarray | None = None, requires_grad: bool = False) -> Tensor:
    """A leaf of the exact mode around an array of a subject. Arrays that are no floats come back as plain tensors."""
    nominal = OF[array.dtype] if nominal is None else nominal
    if nominal.category != FLOAT:
        plain = Tensor.__new__(Tensor)
        plain._data = array
        return plain
    made = ExactTensor.__new__(ExactTensor)
    made._data = array.astype(nominal.wide)
    made._exact = (nominal, radius)
    made._rg = requires_grad
    return made


def _wide_values(entry: Any, bound: tuple[Any, ...], nominal: _dtypes.dtype) -> list[Any]:
    arguments = list(bound)
    for p in entry.tensor_places:
        arguments[p] = _wide(bound[p], nominal, entry.promote == "none" or p not in entry.promoted_places, entry.promote == "bool")
    for p in entry.scalar_places:
        arguments[p] = _wide(bound[p], nominal, False)
    return arguments


def _wide(value: Any, nominal: _dtypes.dtype, as_is: bool, compares: bool = False) -> Any:
    """``compares``: a comparison is made in the common dtype, so a number is rounded to it."""
    if isinstance(value, (list, tuple)):
        return [_wide(v, nominal, as_is) for v in value]
    if isinstance(value, Tensor):
        data = value._data
        if as_is and (data.dtype.kind in "biu" or value._exact is not None):
            return data
        return data if data.dtype is nominal.wide and value.dtype is nominal else _as_nominal(value, nominal, compares).astype(nominal.wide)
    if value is None or as_is:
        return value
    if nominal.category == FLOAT and nominal.itemsize <= 4:
        value = np.float32(value)
    if compares and nominal.category == FLOAT:
        return _dtypes.narrow(np.asarray(value, np.float64), nominal.np).astype(nominal.wide)
    return np.asarray(value, nominal.wide)


def _as_nominal(value: Tensor, nominal: _dtypes.dtype, compares: bool = False) -> np.ndarray:
    """The values as promotion converts them, which rounds wider ones; a ball that is no point keeps its centre."""
    if (
        value.dtype is nominal
        or nominal.category != FLOAT
        or (not value._data.ndim and nominal.itemsize == 2 and not compares)
        or (value._exact is not None and value._exact[1] is not None)
    ):
        return value._data
    return _dtypes.narrow(value._data, nominal.np)


def _radius_of(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_radius_of(v) for v in value]
    if not isinstance(value, Tensor) or value._exact is None:
        return None
    nominal, radius = value._exact
    if nominal.category != FLOAT:
        return radius
    size = np.abs(value._data)
    if not every(size <= nominal.largest):
        # a correct implementation has overflowed here: what follows from it says nothing
        beyond = np.isfinite(size) & (size > nominal.largest)
        if some(beyond):
            return np.where(beyond, np.inf, 0.0 if radius is None else radius)
    return radius


def nominal_dtype(entry: Any, bound: tuple[Any, ...]) -> _dtypes.dtype:
    from refgrad._dispatch import _flatten, common_dtype

    values = _flatten(bound, entry.promoted_places)
    if entry.promote == "none":
        return next((v.dtype for v in values if isinstance(v, Tensor) and v._exact is not None), _dtypes.float32)
    nominal = common_dtype(values)
    if entry.promote == "float" and nominal.category != FLOAT:
        nominal = _dtypes.get_default_dtype()
    return nominal if entry.result_dtype is None else entry.result_dtype(nominal, bound)


def call(entry: Any, bound: tuple[Any, ...]) -> Any:
    """The op on balls: exact values, radii, and (when recording) the node, made as for any tensor."""
    from refgrad import _dispatch

    if entry.exact is not None:
        return _recorded(entry, bound, [_wrap(*entry.exact(*bound))])
    nominal = nominal_dtype(entry, bound)
    arguments = _wide_values(entry, bound, nominal)
    result = _dispatch._forward(entry, arguments, bound)
    several = entry.multi or len(entry.outputs) > 1
    results = [np.asarray(r) for r in (result if several else [result])]
    radii = _radii(entry, bound, arguments, results, nominal)
    return _recorded(entry, bound, [_wrap(r, radius, nominal) for r, radius in zip(results, radii, strict=True)])


def _recorded(entry: Any, bound: tuple[Any, ...], outs: list[Tensor]) -> Any:
    from refgrad import _dispatch

    if MODE.mode == GRAD and entry.node is not None:
        _dispatch._record(entry, bound, outs)
    if entry.multi:
        return tuple(outs)
    return outs[0] if len(outs) == 1 else entry.result_tuple(*outs)


def _wrap(array: np.ndarray, radius: Any, nominal: _dtypes.dtype) -> Tensor:
    if array.dtype.kind in "biu":
        if radius is None or not np.any(radius):
            plain = Tensor.__new__(Tensor)
            plain._data = array
            return plain
        nominal = _dtypes.bool_
    out = ExactTensor.__new__(ExactTensor)
    out._data = array
    out._exact = (nominal, radius)
    return out


# --- radii -------------------------------------------------------------------------------------------------------------------


def _radii(entry: Any, bound: tuple[Any, ...], arguments: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> list[Any]:
    """Per output: what the operands' radii become, plus what this op's own rounding adds."""
    if not _WITH_RADII.on:
        return [None] * len(results)
    radii = [_radius_of(bound[p]) for p in range(len(bound))]
    if entry.undecided is not None:
        return [np.asarray(entry.undecided(arguments, radii), np.float64)] if any(map(_any_radius, radii)) else [None]
    if not any(r.dtype.kind == "f" for r in results):
        return [None] * len(results)
    if nominal.category == FLOAT and nominal.itemsize == 2 and entry.promote in ("common", "float"):
        for p in entry.promoted_places:
            radii[p] = _sum(radii[p], _number_radius(bound[p], arguments[p], nominal))
    found = _decided_radii(entry, bound, arguments, radii, results, nominal)
    for p in entry.tensor_places:
        if bound[p].__class__ is ExactTensor and bound[p].dtype is _dtypes.bool_:
            found = _either(entry, bound, arguments, radii, results, nominal, p, found)
    return found


def _decided_radii(
    entry: Any, bound: tuple[Any, ...], arguments: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype
) -> list[Any]:
    """With truth values as they are."""
    if entry.radius is not None:
        return _as_list(entry.radius(arguments, radii, results, nominal), len(results))
    carried = any(_any_radius(r) for r in radii)
    propagated = _propagate(entry, bound, arguments, radii, results, nominal) if carried else [None] * len(results)
    own = [_own(entry, arguments, r, nominal, carried) if r.dtype.kind == "f" else None for r in results]
    return [_sum(p, o) for p, o in zip(propagated, own, strict=True)]


def _either(
    entry: Any,
    bound: tuple[Any, ...],
    arguments: list[Any],
    radii: list[Any],
    results: list[np.ndarray],
    nominal: _dtypes.dtype,
    place: int,
    found: list[Any],
) -> list[Any]:
    """Radii that reach the result with the other answer, where the truth value at ``place`` is undecided."""
    other, flipped = list(arguments), list(bound)
    other[place] = arguments[place] ^ (radii[place] > 0)
    flipped[place] = _wrap(other[place], None, nominal)
    (result,) = results
    alternative = np.asarray(_apply(entry, other))
    (radius,) = _decided_radii(entry, tuple(flipped), other, radii, [alternative], nominal)
    moved = np.where(alternative == result, 0.0, np.abs(alternative - result))
    widest = np.maximum(0.0 if found[0] is None else found[0], 0.0 if radius is None else radius)
    return [widest + np.where(np.isnan(moved), np.inf, moved)]


def _number_radius(value: Any, wide: Any, nominal: _dtypes.dtype) -> Any:
    """In 16-bit kernels a Python number, or a 0-d tensor of a wider dtype, takes part at compute precision or rounded to the dtype: torch
    has both.
    """
    if value is None or isinstance(value, (list, tuple)) or (isinstance(value, Tensor) and (value._data.ndim or value.dtype is nominal)):
        return None
    moved = np.abs(_dtypes.narrow(np.asarray(wide), nominal.np).astype(wide.dtype) - wide)
    return moved if moved else None


def _as_list(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def _any_radius(radius: Any) -> bool:
    return any(map(_any_radius, radius)) if isinstance(radius, list) else radius is not None


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def own_radius(k: float, scale: Any, nominal: _dtypes.dtype) -> Any:
    """``k`` roundings at the nominal dtype of values as large as ``scale``; below the normal range each errs by up to eta (half of it is no
    number).
    """
    return (k * nominal.unit * REFERENCE) * np.abs(scale) + k * nominal.eta


def _own(entry: Any, arguments: list[Any], result: np.ndarray, nominal: _dtypes.dtype, carried: bool) -> Any:
    """What this op's own rounding adds. One rounding of exact operands adds nothing where the result needs none."""
    if entry.error == "exact":
        return None
    k = entry.ulps(*arguments) if callable(entry.ulps) else entry.ulps if entry.ulps is not None else 1.0 if entry.direct else 4.0
    if entry.scale is not None:
        scale = entry.scale(*arguments)
    elif entry.error in ("linear", "bilinear"):
        scale = _apply(entry, [_absolute(entry, i, a) for i, a in enumerate(arguments)])
    else:
        scale = result
    scale = np.asarray(scale, np.float64)
    if entry.scale is None and entry.error == "elementwise":
        scale = np.where(np.isinf(scale), 0.0, scale)  # to be infinite takes no rounding, so nothing else is right there
    if entry.error in ("linear", "bilinear"):  # partial sums as large as this may have overflowed
        scale = _with_overflow(entry, arguments, scale, nominal)
    if isinstance(k, float) and k == 1.0 and entry.direct and not carried:
        inexact = _dtypes.narrow(result, nominal.np).astype(result.dtype) != result
        return np.where(inexact, nominal.unit * REFERENCE * np.abs(scale) + nominal.eta, 0.0)
    if entry.flushes:
        times = entry.flushes(*arguments) if callable(entry.flushes) else 1.0
        return own_radius(k, scale, nominal) + times * (nominal.eta / (2 * nominal.unit))
    if not entry.accumulates or nominal.itemsize > 2:
        return own_radius(k, scale, nominal)
    return own_radius(k, scale, _dtypes.float32) + own_radius(1.0, np.asarray(result, np.float64), nominal)


def _with_overflow(entry: Any, arguments: list[Any], scale: np.ndarray, nominal: _dtypes.dtype) -> np.ndarray:
    """Infinite where the finite operands' partial sums may lie beyond the largest number; infinite operands are no overflow."""
    if not scale.size or not np.nanmax(scale, initial=0.0) > nominal.largest:
        return scale
    finite = [np.where(np.isfinite(a), a, 0.0) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]
    reach = np.asarray(_apply(entry, [_absolute(entry, i, a) for i, a in enumerate(finite)]), np.float64)
    return np.where(reach > nominal.largest, np.inf, scale)


def _absolute(entry: Any, place: int, value: Any) -> Any:
    if place not in entry.tensor_places or value is None:
        return value
    if isinstance(value, list):
        return [_absolute(entry, place, v) for v in value]
    return np.abs(value) if value.dtype.kind == "f" else value


def _apply(entry: Any, arguments: list[Any]) -> Any:
    return entry.forward(
        *arguments[: entry.positional], **dict(zip(entry.params[entry.positional :], arguments[entry.positional :], strict=True))
    )


def _propagate(
    entry: Any, bound: tuple[Any, ...], arguments: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype
) -> list[Any]:
    several = entry.multi or len(entry.outputs) > 1
    if entry.error == "bilinear":
        total: Any = None
        for p in entry.tensor_places:
            if radii[p] is not None:
                mixed = [np.abs(a) if i in entry.tensor_places and a is not None else a for i, a in enumerate(arguments)]
                mixed[p] = np.broadcast_to(radii[p], arguments[p].shape)
                total = _sum(total, _apply(entry, mixed))
        return [total]
    if entry.error in ("linear", "exact"):
        mixed = [_linear_argument(entry, p, arguments[p], radii[p]) for p in range(len(arguments))]
        out = _apply(entry, mixed)
        return [np.abs(r) if r.dtype.kind == "f" else None for r in (out if several else [np.asarray(out)])]
    if entry.moves is not None:
        return [entry.moves(arguments[0], radii[0], results[0])]
    numbers = _moved_by_numbers(entry, bound, arguments, radii, results[0], nominal)
    return [_sum(numbers, _elementwise(entry, bound, radii, results[0], nominal))]


def _moved_by_numbers(
    entry: Any, bound: tuple[Any, ...], arguments: list[Any], radii: list[Any], result: np.ndarray, nominal: _dtypes.dtype
) -> Any:
    """How far the result moves where a number that has no derivative is rounded to the dtype (see ``_number_radius``)."""
    total: Any = None
    for p in entry.promoted_places:
        if radii[p] is not None and entry.params[p] not in entry.vjp and not isinstance(bound[p], Tensor):
            rounded = _dtypes.narrow(np.asarray(arguments[p]), nominal.np).astype(nominal.wide)
            moved = np.abs(_apply(entry, [rounded if i == p else a for i, a in enumerate(arguments)]) - result)
            total = _sum(total, np.where(np.isfinite(moved), moved, 0.0))
    return total


def _linear_argument(entry: Any, place: int, value: Any, radius: Any) -> Any:
    if entry.params[place] not in entry.vjp:
        return value
    if isinstance(value, list):
        return [_linear_argument(entry, place, v, r) for v, r in zip(value, radius, strict=True)]
    if isinstance(value, np.ndarray):
        return np.zeros(value.shape, value.dtype) if radius is None else np.broadcast_to(radius, value.shape).astype(value.dtype)
    return value


def _elementwise(entry: Any, bound: tuple[Any, ...], radii: list[Any], result: np.ndarray, nominal: _dtypes.dtype) -> Any:
    """Σ |∂f/∂x| · radius, the derivatives from the entry's own formulas, at the exact values."""
    mode, MODE.mode, _WITH_RADII.on = MODE.mode, NO_GRAD, False
    try:
        total: Any = None
        plain = {name: _without_radius(bound[i]) for name, i in entry.place.items()}
        for name, formula in entry.vjp.items():
            radius = radii[entry.place[name]]
            if radius is None:
                continue
            grad = _wide_tensor(np.broadcast_to(np.asarray(radius, result.dtype), result.shape), nominal)
            moved = np.abs(_evaluate(formula, plain, grad, result, nominal))
            total = _sum(total, np.where(np.asarray(radius) == 0, 0.0, moved))  # no error stays none where the slope is infinite
        return total
    finally:
        MODE.mode, _WITH_RADII.on = mode, True


def _without_radius(value: Any) -> Any:
    return _wide_tensor(value._data, value._exact[0]) if isinstance(value, ExactTensor) else value


def _wide_tensor(array: np.ndarray, nominal: _dtypes.dtype) -> Tensor:
    made = ExactTensor.__new__(ExactTensor)
    made._data = array
    made._exact = (nominal, None)
    return made


@cache
def _parameters(formula: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(formula).parameters)


def _evaluate(formula: Any, plain: dict[str, Any], grad: Tensor, result: np.ndarray, nominal: _dtypes.dtype) -> Any:
    names = _parameters(formula)
    values = {
        n: grad if n == "grad" else _wide_tensor(result, nominal) if n == "result" else plain[n] if n in plain else _metadata(n, plain)
        for n in names
    }
    return np.asarray(formula(**values)._data, np.float64)


def _metadata(name: str, plain: dict[str, Any]) -> Any:
    tensor, kind = name.rsplit("_", 1)
    value = plain[tensor]
    if kind == "geometry":
        return geometry(value)
    if not isinstance(value, Tensor):
        return () if kind == "shape" else None
    return value._data.shape if kind == "shape" else value.dtype


def exact(tensor: Tensor, requires_grad: bool | None = None) -> Any:
    """The ball of a tensor's values, with no error yet: ops on it round nothing and bound what the nominal dtype would."""
    return ball(tensor._data, tensor.dtype, requires_grad=tensor._rg if requires_grad is None else requires_grad)


__all__ = ["ExactTensor", "ball", "exact"]
