"""Products of vectors, matrices and batches of matrices.

A kernel may add the products in any order, with or without fused multiply-add, so that an inner size of n costs at most n roundings
relative to |A| @ |B| (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). ``matmul`` and ``linear`` take the same ways
through the others as torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import repeats
from refgrad._dtypes import BOOL, CPP_NAMES
from refgrad._errors import declare, error
from refgrad._exact import own_radius
from refgrad._ops.creation import fitted
from refgrad._storage import element_strides
from refgrad._table import TABLE, op
from refgrad._tensor import own_storage

declare("product_matrix", RuntimeError, "{which} must be a matrix")
declare("product_matrix_dims", RuntimeError, "{which} must be a matrix, got {ndim}-D tensor")
declare("product_shapes", RuntimeError, "mat1 and mat2 shapes cannot be multiplied ({a} and {b})")
declare("product_3d", RuntimeError, "{which} must be a 3D tensor")
declare(
    "bmm_shapes", RuntimeError, "Expected size for first two dimensions of batch2 tensor to be: [{batch}, {inner}] but got: [{a}, {b}]."
)
declare("mv_dims", RuntimeError, "vector + matrix @ vector expected, got {result}, {mat}, {vec}")
declare("mv_shapes", RuntimeError, "size mismatch, got input ({result}), mat ({mat}), vec ({vec})")
declare("dot_dims", RuntimeError, "1D tensors expected, but got {a}D and {b}D tensors")
declare(
    "dot_shapes",
    RuntimeError,
    "inconsistent tensor size, expected tensor [{a}] and src [{b}] to have the same number of elements, but got {a} and {b} elements "
    "respectively",
)
declare("outer_dims", RuntimeError, "outer: Expected 1-D argument {which}, but got {ndim}-D")
declare("product_0d", RuntimeError, "both arguments to {name} need to be at least 1D, but they are {a}D and {b}D")
declare("m1_m2_dtype", RuntimeError, "expected m1 and m2 to have the same dtype, but got: {a} != {b}")
declare("scalar_type", RuntimeError, "expected scalar type {a} but found {b}")
declare("addmv_dtype", RuntimeError, "addmv input tensors must have the same dtype, but got {a}, {b}, and {c}")
declare("dot_dtype", RuntimeError, "dot : expected both vectors to have same dtype, but found {a} and {b}")
declare("addmm_dtype", RuntimeError, "{which} and mat2 must have the same dtype, but got {a} and {b}")
declare("baddbmm_dtype", RuntimeError, "Input dtypes must be the same, got: input {a}, batch1: {b}, batch2: {c}")
declare("not_implemented_dtype", NotImplementedError, "\"{kernel}\" not implemented for '{dtype}'")
declare(
    "expand_size",
    RuntimeError,
    "The expanded size of the tensor ({target}) must match the existing size ({size}) at non-singleton dimension {dim}.  Target sizes: "
    "{targets}.  Tensor sizes: {sizes}",
)
declare(
    "product_expand_dims",
    RuntimeError,
    "expand({tensor_type}{{{sizes}}}, size={targets}): the number of sizes provided ({count}) must be greater or equal to the number of "
    "dimensions in the tensor ({ndim})",
)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _refuses(kernel: str, check: Callable[..., None], differ: Callable[[_dtypes.dtype, _dtypes.dtype], Exception]) -> Callable[..., None]:
    """The dtypes that a product of two does not take: two different ones, and bool. Shapes (``check``) come first, as in torch."""

    def refuse(nominal: _dtypes.dtype, values: list[Any]) -> None:
        check(*(v._data for v in values))
        a, b = (v.dtype for v in values)
        if a is not b:
            raise differ(a, b)
        if nominal.category == BOOL:
            raise error("not_implemented_dtype", kernel=kernel, dtype="Bool")

    return refuse


# --- two operands --------------------------------------------------------------------------------------------------------------------

_PRODUCT_REASON = "n roundings for an inner size of n, in any order, relative to the product of magnitudes (Higham, section 3.1)"


def inner_ulps(a: np.ndarray, *_: Any) -> float:
    """n products and n - 1 sums, of which fused kernels round n together."""
    return float(max(a.shape[-1], 1))


def _check_mm(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2:
        raise error("product_matrix", which="self" if a.ndim != 2 else "mat2")
    if a.shape[1] != b.shape[0]:
        raise error("product_shapes", a=_by(a.shape), b=_by(b.shape))


@op(
    error="bilinear",
    accumulates=True,
    ulps=inner_ulps,
    reason=_PRODUCT_REASON,
    refuses=_refuses("addmm_impl_cpu_", _check_mm, lambda a, b: error("m1_m2_dtype", a=CPP_NAMES[a.name], b=CPP_NAMES[b.name])),
    vjp=dict(input=lambda grad, mat2: grad.mm(mat2.t()), mat2=lambda grad, input: input.t().mm(grad)),
)
def mm(input, mat2):
    _check_mm(input, mat2)
    return np.matmul(input, mat2)


def _check_bmm(batch1: np.ndarray, batch2: np.ndarray) -> None:
    if batch1.ndim != 3 or batch2.ndim != 3:
        raise error("product_3d", which="batch1" if batch1.ndim != 3 else "batch2")
    if (batch1.shape[0], batch1.shape[2]) != batch2.shape[:2]:
        raise error("bmm_shapes", batch=batch1.shape[0], inner=batch1.shape[2], a=batch2.shape[0], b=batch2.shape[1])


@op(
    error="bilinear",
    accumulates=True,
    ulps=inner_ulps,
    reason=_PRODUCT_REASON,
    refuses=_refuses("bmm", _check_bmm, lambda a, b: error("scalar_type", a=a.scalar_type, b=b.scalar_type)),
    vjp=dict(input=lambda grad, mat2: grad.bmm(mat2.transpose(1, 2)), mat2=lambda grad, input: input.transpose(1, 2).bmm(grad)),
)
def bmm(input, mat2):
    _check_bmm(input, mat2)
    return np.ascontiguousarray(np.matmul(input, mat2))


def _check_mv(mat: np.ndarray, vec: np.ndarray) -> None:
    if mat.ndim != 2 or vec.ndim != 1:
        raise error("mv_dims", result=1, mat=mat.ndim, vec=vec.ndim)
    if mat.shape[1] != vec.shape[0]:
        raise error("mv_shapes", result=mat.shape[0], mat=_by(mat.shape), vec=vec.shape[0])


@op(
    tensors=("input", "vec"),
    error="bilinear",
    accumulates=True,
    ulps=inner_ulps,
    reason=_PRODUCT_REASON,
    refuses=_refuses("addmv_impl_cpu", _check_mv, lambda a, b: error("addmv_dtype", a=b.scalar_type, b=a.scalar_type, c=b.scalar_type)),
    vjp=dict(input=lambda grad, vec: TABLE["outer"].public(grad, vec), vec=lambda grad, input: input.t().mv(grad)),
)
def mv(input, vec):
    _check_mv(input, vec)
    return np.matmul(input, vec)


def _check_dot(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 1 or b.ndim != 1:
        raise error("dot_dims", a=a.ndim, b=b.ndim)
    if a.dtype is b.dtype and a.shape != b.shape:
        raise error("dot_shapes", a=a.shape[0], b=b.shape[0])


@op(
    tensors=("input", "tensor"),
    error="bilinear",
    accumulates=True,
    ulps=inner_ulps,
    reason=_PRODUCT_REASON,
    refuses=_refuses("dot", _check_dot, lambda a, b: error("dot_dtype", a=a.scalar_type, b=b.scalar_type)),
    vjp=dict(input=lambda grad, tensor: grad * tensor, tensor=lambda grad, input: grad * input),
)
def dot(input, tensor):
    _check_dot(input, tensor)
    return np.asarray(np.matmul(input, tensor))


@op(composite=True, tensors=("input", "vec2"))
def outer(input, vec2):
    """Every product of an element of the one vector with one of the other."""
    for which, t in (("self", input), ("vec2", vec2)):
        if t._data.ndim != 1:
            raise error("outer_dims", which=which, ndim=t._data.ndim)
    return input.reshape((input._data.shape[0], 1)) * vec2


@op(composite=True, tensors=("input", "vec2"))
def ger(input, vec2):
    """As ``outer``, its older name."""
    return outer(input, vec2)


# --- a product added to something ------------------------------------------------------------------------------------------------------


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1 else value * factor


def _factor(factor: Any, array: np.ndarray) -> Any:
    return array.dtype.type(factor) if array.dtype.kind == "f" else array.dtype.type(fitted(factor, _dtypes.OF[array.dtype]))


def _product(a: np.ndarray, b: np.ndarray, beta: Any) -> np.ndarray:
    """``a @ b`` of matrices. Over an inner size of 0 torch only scales ``input``, which has no room for a factor of a wider kind."""
    if not a.shape[-1] and beta != 0 and a.dtype.kind in "iub" and a.shape[-2] * b.shape[-1]:
        factor, dtype = _dtypes.scalar_dtype(beta), _dtypes.OF[a.dtype]
        if factor.category > dtype.category:
            raise error("result_cast", result=factor.scalar_type, output=dtype.scalar_type)
    return np.ascontiguousarray(np.matmul(a, b))


def _added(input: np.ndarray, product: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """``beta * input + alpha * product``; what has the factor 0 is not looked at, nan or not."""
    alpha, beta = _factor(alpha, product), _factor(beta, product)
    out = product * alpha if alpha != 0 else np.zeros_like(product)
    return np.asarray(out if beta == 0 else out + np.broadcast_to(input, product.shape) * beta)


def _added_radius(multiply: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The radius of ``beta * input + alpha * multiply(a, b)``: n roundings of the product, and three to scale and to add."""

    def radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: _dtypes.dtype) -> Any:
        input, a, b, beta, alpha = values
        shape, size = results[0].shape, np.abs
        scale = abs(alpha) * multiply(size(a), size(b)) + abs(beta) * np.broadcast_to(size(input), shape)
        own = _rounded(a.shape[-1] + 3.0, scale, results[0], nominal)
        if nominal.itemsize == 2:  # kernels round the two terms to the dtype before they add them
            terms = np.abs(alpha * multiply(a, b)) + abs(beta) * np.broadcast_to(size(input), shape)
            own = own + own_radius(1.0, terms, nominal)
        for r, other, left in ((radii[1], b, True), (radii[2], a, False)):
            if r is not None:
                r = np.broadcast_to(r, (a if left else b).shape)
                own = own + abs(alpha) * (multiply(r, size(other)) if left else multiply(size(other), r))
        return own if radii[0] is None else own + abs(beta) * np.broadcast_to(radii[0], shape)

    return radius


def _rounded(k: float, scale: Any, result: Any, nominal: _dtypes.dtype) -> Any:
    if nominal.itemsize > 2:
        return own_radius(k, scale, nominal)
    return own_radius(k, scale, _dtypes.float32) + own_radius(1.0, result, nominal)


def _check_expand(input: Any, target: tuple[int, ...]) -> None:
    """Raises torch's errors where ``input`` does not expand to ``target``."""
    shape = input._data.shape
    if len(shape) > len(target):
        kind = input.dtype.tensor_type
        kind = f"CPU{kind.removesuffix('Tensor')}Type" if kind in ("BFloat16Tensor", "BoolTensor") else f"torch.{kind}"
        raise error("product_expand_dims", tensor_type=kind, sizes=list(shape), targets=list(target), count=len(target), ndim=len(shape))
    for d in range(len(target) - 1, len(target) - len(shape) - 1, -1):
        size = shape[d - len(target) + len(shape)]
        if size not in (1, target[d]):
            raise error("expand_size", target=target[d], size=size, dim=d, targets=list(target), sizes=list(shape))


def _check_addmm(input: Any, mat1: Any, mat2: Any, beta: Any, alpha: Any) -> None:
    for which, t in (("self", input), ("mat1", mat1)):
        if t.dtype is not mat2.dtype:
            raise error("addmm_dtype", which=which, a=t.dtype.scalar_type, b=mat2.dtype.scalar_type)
    for which, t in (("mat1", mat1), ("mat2", mat2)):
        if t._data.ndim != 2:
            raise error("product_matrix_dims", which=which, ndim=t._data.ndim)
    a, b = mat1._data.shape, mat2._data.shape
    if a[1] != b[0]:
        raise error("product_shapes", a=_by(a), b=_by(b))
    _check_expand(input, (a[0], b[1]))
    _no_bool("addmm_impl_cpu_", mat1, mat2)


def _no_bool(kernel: str, a: Any, b: Any) -> None:
    """No kernel is asked for where there is nothing to multiply."""
    if b.dtype.category == BOOL and a._data.size and b._data.size:
        raise error("not_implemented_dtype", kernel=kernel, dtype="Bool")


def _addmm_copies(input: Any, mat1: Any, mat2: Any, beta: Any, alpha: Any) -> bool:
    """BLAS takes no matrix with a stride of 0, so torch copies from one without; over an inner size of 0 it multiplies by ``beta``."""
    return bool(mat1._data.shape[1] or beta != 0)


def _addmv_copies(input: Any, mat: Any, vec: Any, beta: Any, alpha: Any) -> bool:
    return not vec._data.size and beta != 0


#: torch multiplies batches of matrices of fewer products than this by a loop of its own, which writes anywhere
_SMALL_PRODUCT = 400


def _batches_are_small(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape[1] * a.shape[2] * b.shape[2] < _SMALL_PRODUCT


def _baddbmm_copies(input: Any, batch1: Any, batch2: Any, beta: Any, alpha: Any) -> bool:
    if not batch1._data.shape[2]:
        return bool(beta != 0)
    return not _batches_are_small(batch1._data, batch2._data) and repeats(input._data[0])


@op(
    promote="same",
    tensors=("input", "mat1", "mat2"),
    direct=False,
    inplace=True,
    copies_over=_addmm_copies,
    check=_check_addmm,
    radius=_added_radius(np.matmul),
    reason=_PRODUCT_REASON + ", and 3 to scale and add",
    vjp=dict(
        input=lambda grad, beta: _times(grad, beta),
        mat1=lambda grad, mat2, alpha: _times(grad.mm(mat2.t()), alpha),
        mat2=lambda grad, mat1, alpha: _times(mat1.t().mm(grad), alpha),
    ),
)
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    return _added(input, _product(mat1, mat2, beta), beta, alpha)


def _check_addmv(input: Any, mat: Any, vec: Any, beta: Any, alpha: Any) -> None:
    if mat._data.ndim != 2 or vec._data.ndim != 1 or input._data.ndim > 1:
        raise error("mv_dims", result=input._data.ndim, mat=mat._data.ndim, vec=vec._data.ndim)
    size = input._data.shape[0] if input._data.ndim else 1
    rows = mat._data.shape[0]
    if mat._data.shape[1] != vec._data.shape[0] or size not in (1, rows):
        raise error("mv_shapes", result=size, mat=_by(mat._data.shape), vec=vec._data.shape[0])
    if not input.dtype is mat.dtype is vec.dtype:
        raise error("addmv_dtype", a=input.dtype.scalar_type, b=mat.dtype.scalar_type, c=vec.dtype.scalar_type)
    _no_bool("addmv_impl_cpu", mat, vec)


@op(
    promote="same",
    tensors=("input", "mat", "vec"),
    direct=False,
    inplace=True,
    copies_over=_addmv_copies,
    check=_check_addmv,
    radius=_added_radius(np.matmul),
    reason=_PRODUCT_REASON + ", and 3 to scale and add",
    vjp=dict(
        input=lambda grad, beta: _times(grad, beta),
        mat=lambda grad, vec, alpha: _times(outer(grad, vec), alpha),
        vec=lambda grad, mat, alpha: _times(mat.t().mv(grad), alpha),
    ),
)
def addmv(input, mat, vec, *, beta=1, alpha=1):
    return _added(input, np.matmul(mat, vec), beta, alpha)


def _check_baddbmm(input: Any, batch1: Any, batch2: Any, beta: Any, alpha: Any) -> None:
    a, b = batch1._data, batch2._data
    if input.dtype is not batch1.dtype:
        raise error(
            "baddbmm_dtype",
            a=CPP_NAMES[input.dtype.name],
            b=CPP_NAMES[batch1.dtype.name],
            c=CPP_NAMES[batch2.dtype.name],
        )
    _check_bmm(a, b)
    if batch1.dtype is not batch2.dtype:
        raise error("scalar_type", a=batch1.dtype.scalar_type, b=batch2.dtype.scalar_type)
    _check_expand(input, (a.shape[0], a.shape[1], b.shape[2]))
    _no_bool("baddbmm" if _batches_are_small(a, b) else "addmm_impl_cpu_", batch1, batch2)


@op(
    promote="same",
    tensors=("input", "batch1", "batch2"),
    direct=False,
    inplace=True,
    copies_over=_baddbmm_copies,
    check=_check_baddbmm,
    radius=_added_radius(np.matmul),
    reason=_PRODUCT_REASON + ", and 3 to scale and add",
    vjp=dict(
        input=lambda grad, beta: _times(grad, beta),
        batch1=lambda grad, batch2, alpha: _times(grad.bmm(batch2.transpose(1, 2)), alpha),
        batch2=lambda grad, batch1, alpha: _times(batch1.transpose(1, 2).bmm(grad), alpha),
    ),
)
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    return _added(input, _product(batch1, batch2, beta), beta, alpha)


# --- matmul ------------------------------------------------------------------------------------------------------------------------------


@op(promote="none", method=False, function=False, vjp=dict(input=lambda grad, input_shape: grad.reshape(input_shape)))
def _unsafe_view(input, size):
    """Another shape of a result that nobody else will see: no view of it."""
    return input.reshape(size)


@op(promote="none", method=False, function=False, node="4", vjp=dict(input=lambda grad, dim: grad.unsqueeze(dim)))
def _squeeze(input, dim):
    """``squeeze_`` of a result that nobody else will see."""
    return input.squeeze(dim)


@op(composite=True, symbol="@")
def matmul(input, other):
    """The product by numpy's rules: vectors, matrices, and batches that broadcast. Raises torch's errors for shapes that do not fit."""
    a, b = input._data.ndim, other._data.ndim
    if a == 0 or b == 0:
        raise error("product_0d", name="matmul", a=a, b=b)
    if a == 1 and b == 1:
        return dot(input, other)
    if a == 2 and b == 1:
        return mv(input, other)
    if a == 1 and b == 2:
        return _row_times_matrix(input, other)
    if a == 2 and b == 2:
        return mm(input, other)
    input, other = _single_batch(input, other), _single_batch(other, input)
    return _folded(input, other) if _folds(input, other) else _batched(input, other)


def _row_times_matrix(input: Any, other: Any) -> Any:
    out = _squeeze(mm(input.unsqueeze(0), other), 0)
    own_storage(out).version += 1  # torch squeezes in place
    return out


def _single_batch(tensor: Any, other: Any) -> Any:
    """A batch of one, against several, is a matrix: its gradient would otherwise be summed over an expanded batch."""
    shape, others = tensor._data.shape, other._data.shape
    single = len(shape) == len(others) == 3 and shape[0] == 1 and others[0] != 1
    return tensor.squeeze(0) if single and tensor.requires_grad else tensor


def _folds(a: Any, b: Any) -> bool:
    """Whether torch folds the batch of the larger operand into its rows: to avoid an expanded gradient, or because it costs no copy."""
    larger, smaller = (a, b) if a._data.ndim >= b._data.ndim else (b, a)
    if smaller._data.ndim > 2:
        return False
    if smaller.requires_grad:
        return True
    if a._data.ndim == 2:
        return False
    shape, strides = list(larger._data.shape), list(element_strides(larger._data))
    if larger is b:
        shape[-2:], strides[-2:] = shape[:-3:-1], strides[:-3:-1]
    return larger._data.size == 0 or all(strides[i] == strides[i + 1] * shape[i + 1] for i in range(len(shape) - 2))


def _folded(a: Any, b: Any) -> Any:
    transposed = b._data.ndim > a._data.ndim
    large = b.transpose(-2, -1) if transposed else a
    small = (a.t() if a._data.ndim == 2 else a) if transposed else b
    *batch, inner = large._data.shape
    rows = large.reshape((math.prod(batch), inner))
    if small._data.ndim == 1:
        return _unsafe_view(mv(rows, small), tuple(batch))
    out = _unsafe_view(mm(rows, small), (*batch, small._data.shape[1]))
    return out.transpose(-2, -1).contiguous() if transposed else out


def _batched(a: Any, b: Any) -> Any:
    from refgrad._dispatch import broadcast_shapes

    *batch_a, n, inner_a = (1, *a._data.shape)[-max(a._data.ndim, 2) :]
    vector = b._data.ndim == 1
    *batch_b, inner_b, p = (*b._data.shape, 1) if vector else b._data.shape
    batch = broadcast_shapes(tuple(batch_a), tuple(batch_b))
    count = math.prod(batch)
    left = a.expand((*batch, n, inner_a)).reshape((count, n, inner_a))
    if vector:
        right = b.expand((*batch, inner_b)).reshape((count, inner_b)).unsqueeze(2)
        return _unsafe_view(bmm(left, right).squeeze(-1), (*batch, n))
    right = b.expand((*batch, inner_b, p)).reshape((count, inner_b, p))
    return _unsafe_view(bmm(left, right), (*batch, p) if a._data.ndim == 1 else (*batch, n, p))


# --- linear -----------------------------------------------------------------------------------------------------------------------------


@op(where="nn.functional", composite=True)
def linear(input, weight, bias=None):
    """``input @ weight.t() + bias``, over the last dim of the input."""
    ndim = input._data.ndim
    if ndim == 0 or weight._data.ndim == 0:
        raise error("product_0d", name="linear", a=ndim, b=weight._data.ndim)
    if bias is None:
        return matmul(input, weight.t())
    if ndim == 2:
        return addmm(bias, input, weight.t())
    row = bias._data.ndim == 1 or sum(n != 1 for n in bias._data.shape) == 1
    if row and input.is_contiguous() and bias.is_contiguous():
        *batch, inner = input._data.shape
        out = addmm(bias, input.reshape((math.prod(batch), inner)), weight.t())
        return out.view((*batch, weight._data.shape[0]))
    return matmul(input, weight.t()).add_(bias)
