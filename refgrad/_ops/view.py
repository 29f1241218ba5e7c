"""Views, which share storage and version counter with what they view, and the copies that only rearrange elements.

A forward makes its view by numpy's indexing where that gives torch's strides and offset, otherwise by ``strided``. Gradients of views are
views of gradients, or go into zeros (``_select_backward`` and its like are ops of their own, as in torch: they have derivatives too).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from refgrad._dtypes import OF
from refgrad._errors import declare, error
from refgrad._exact import ExactTensor
from refgrad._ops.creation import empty_as
from refgrad._storage import address, overlaps_itself
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor, make, own_storage

declare("one_inferred", RuntimeError, "only one dimension can be inferred")
declare("negative_dim", RuntimeError, "invalid shape dimension {n} at index {place} of shape {shape}")
declare(
    "inferred_ambiguous",
    RuntimeError,
    "cannot reshape tensor of 0 elements into shape {shape} because the unspecified dimension size -1 can be any value and is ambiguous",
)
declare(
    "expand_size",
    RuntimeError,
    "The expanded size of the tensor ({target}) must match the existing size ({size}) at non-singleton dimension "
    "{dim}.  Target sizes: {targets}.  Tensor sizes: {sizes}",
)
declare("expand_leading", RuntimeError, "The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {dim}")
declare(
    "expand_dims",
    RuntimeError,
    "expand(torch.{tensor_type}{{{sizes}}}, size={targets}): the number of sizes provided ({count}) must be "
    "greater or equal to the number of dimensions in the tensor ({ndim})",
)
declare("t_ndim", RuntimeError, "t() expects a tensor with <= 2 dimensions, but self is {ndim}D")
declare("matrices_only", RuntimeError, "tensor.{name} is only supported on matrices or batches of matrices. Got {ndim}-D tensor.")
declare("h_ndim", RuntimeError, "tensor.H is only supported on matrices (2-D tensors). Got {ndim}-D tensor.{advice}")
declare(
    "permute_ndim",
    RuntimeError,
    "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
    "ordering of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {given}",
)
declare("permute_twice", RuntimeError, "permute(): duplicate dims are not allowed.")
declare(
    "movedim_count",
    RuntimeError,
    "movedim: Invalid source or destination dims: source ({source} dims) should contain the same number of dims as "
    "destination ({destination} dims)",
)
declare("movedim_twice", RuntimeError, "movedim: repeated dim in `{which}` ({dims})")
declare("select_range", IndexError, "select(): index {index} out of range for tensor of size {shape} at dimension {dim}")
declare("select_0d", IndexError, "select() cannot be applied to a 0-dim tensor.")
declare("slice_0d", IndexError, "slice() cannot be applied to a 0-dim tensor.")
declare("slice_step", RuntimeError, "slice step must be positive")
declare("narrow_0d", RuntimeError, "narrow() cannot be applied to a 0-dim tensor.")
declare("narrow_length", RuntimeError, "narrow(): length must be non-negative.")
declare("narrow_start", IndexError, "start out of range (expected to be in range of [{low}, {high}], but got {start})")
declare("narrow_exceeds", RuntimeError, "start ({start}) + length ({length}) exceeds dimension size ({size}).")
declare("flatten_order", RuntimeError, "flatten() has invalid args: start_dim cannot come after end_dim")
declare("unflatten_empty", RuntimeError, "unflatten: sizes must be non-empty")
declare("unflatten_unexpected", RuntimeError, "unflatten got an unexpected error:\n{problem}")
declare(
    "unflatten_sizes",
    RuntimeError,
    "unflatten: Provided sizes {sizes} don't multiply up to the size of dim {dim} ({size}) in the input tensor",
)
declare("diagonal_same", RuntimeError, "diagonal dimensions cannot be identical {dim1}, {dim2}")
declare("diag_ndim", RuntimeError, "diag(): Supports 1D or 2D tensors. Got {ndim}D")
declare("unfold_size", RuntimeError, "maximum size for tensor at dimension {dim} is {largest} but size is {size}")
declare("unfold_negative", RuntimeError, "size is {size} but must be >= 0")
declare("unfold_step", RuntimeError, "step is {step} but must be > 0")
declare("strides_count", RuntimeError, "mismatch in length of strides and shape")
declare("strides_negative", RuntimeError, "as_strided: Negative strides are not supported at the moment, got strides: {stride}")
declare(
    "storage_bounds",
    RuntimeError,
    "setStorage: sizes {size}, strides {stride}, storage offset {offset}, and itemsize {itemsize} requiring a "
    "storage size of {needed} are out of bounds for storage of size {held}",
)
declare("storage_offset", RuntimeError, "Tensor: invalid storage offset {offset}")
declare("size_overflow", RuntimeError, "Storage size calculation overflowed with sizes={size} and strides={stride}")
declare("flip_ndim", RuntimeError, "Input must be >= {least}-d.")
declare("no_dims", IndexError, "Dimension specified as {dim} but tensor has no dimensions")
declare("roll_shifts", RuntimeError, "`shifts` required")
declare("roll_align", RuntimeError, "shifts and dimensions must align. shifts: {shifts}, dims:{dims}")
declare("rot90_count", RuntimeError, "expected total rotation dims == 2, but got dims = {count}")
declare("rot90_ndim", RuntimeError, "expected total dims >= 2, but got total dims = {ndim}")
declare("rot90_same", RuntimeError, "expected rotation dims to be different, but got dim0 = {dim0} and dim1 = {dim1}")
declare("repeat_ndim", RuntimeError, "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
declare(
    "interleave_size",
    RuntimeError,
    "repeats must have the same size as input along dim, but got repeats.size(0) = {repeats} and input.size({dim}) = {size}",
)
declare("interleave_negative", RuntimeError, "Repeats must be non-negative")
declare("triangle_ndim", RuntimeError, "{name}: input tensor must have at least 2 dimensions")
declare(
    "detach_view",
    RuntimeError,
    "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
    "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence detach_() "
    "cannot be called on these gradients. To fix this error, please refer to the Optimizer.zero_grad() function in "
    "torch/optim/optimizer.py as the solution.",
)

# --- dims and memory --------------------------------------------------------------------------------------------------


def wrap_dim(dim: int, ndim: int) -> int:
    """``dim`` counted from the front; a 0-d tensor counts as one dim. Raises torch's error for one out of range."""
    n = ndim or 1
    if not -n <= dim < n:
        raise error("dim_range", low=-n, high=n - 1, dim=dim)
    return dim + n if dim < 0 else dim


def wrap_dims(dims: Any, ndim: int) -> list[int]:
    """Several dims, none twice."""
    found: list[int] = []
    for d in dims:
        d = wrap_dim(d, ndim)
        if d in found:
            raise error("dim_twice", dim=d)
        found.append(d)
    return found


def _along(dim: int, index: Any) -> tuple[Any, ...]:
    """numpy's index for ``index`` at ``dim`` and everything elsewhere; with the ellipsis it never gives a scalar."""
    return (index, ...) if dim == 0 else (*[slice(None)] * dim, index, ...)


def memory(array: np.ndarray) -> np.ndarray:
    """The whole memory that an array lies in, flat."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.ravel(order="K")


def strided(array: np.ndarray, shape: Any, strides: Any, offset: int = 0) -> np.ndarray:
    """A view of the memory of ``array``, which must be large enough: strides and offset in bytes, the offset from its first element."""
    if array.flags.c_contiguous and array.size and 0 not in shape:
        return np.ndarray(shape, array.dtype, array, offset, strides)
    whole = memory(array)
    start = offset + address(array) - address(whole) if whole.size else 0
    if 0 in shape:  # no element stands anywhere, and the place named may lie past the memory
        start = min(start, whole.nbytes)
    return np.ndarray(shape, array.dtype, whole, start, strides)


def _new_zeros(grad: Tensor, shape: Any) -> Tensor:
    return TABLE["new_zeros"].public(grad, tuple(shape))


def written_zeros(grad: Tensor, shape: Any) -> Tensor:
    """Zeros that torch fills by a write which counts."""
    zeros = _new_zeros(grad, shape)
    own_storage(zeros).version += 1
    return zeros


def write_into(target: Tensor, name: str, *arguments: Any) -> Tensor:
    """``target.name_(…)``; out of place for balls, whose radii no write changes."""
    entry = TABLE[name]
    return (entry.public if target.__class__ is ExactTensor else entry.inplace_public)(target, *arguments)


# --- view, reshape ----------------------------------------------------------------------------------------------------


def infer_size(shape: Any, numel: int) -> tuple[int, ...]:
    """The shape with -1 filled in. Raises torch's errors where it does not fit ``numel``."""
    sizes, inferred = list(shape), None
    for place, n in enumerate(sizes):
        if n == -1:
            if inferred is not None:
                raise error("one_inferred")
            inferred = place
        elif n < 0:
            raise error("negative_dim", n=n, place=place, shape=sizes)
    known = math.prod([n for n in sizes if n != -1])
    if not (numel == known or (inferred is not None and known > 0 and numel % known == 0)):
        raise error("reshape_size", shape=", ".join(map(str, sizes)).join("[]"), numel=numel)
    if inferred is not None:
        if known == 0:
            raise error("inferred_ambiguous", shape=sizes)
        sizes[inferred] = numel // known
    return tuple(sizes)


def _viewed(input: np.ndarray, size: Any) -> np.ndarray | None:
    """A view of that shape, or None where memory does not allow it."""
    if input.size == 1 and input.ndim and not any(input.strides):  # strides of 0 tell a view that others may share: they stay
        size = input.reshape(size).shape
        return strided(input, size, (0,) * len(size))
    try:
        return input.reshape(size, copy=False)
    except ValueError:
        return None


@op(promote="none", view=True, function=False, variadic="size", vjp=dict(input=lambda grad, input_shape: grad.reshape(input_shape)))
def view(input, size):
    if not isinstance(size, (tuple, list)):
        raise NotImplementedError("refgrad has no Tensor.view(dtype)")
    out = _viewed(input, size) if min(size, default=0) >= -1 else None
    if out is None:
        out = _viewed(input, infer_size(size, input.size))
        if out is None:
            raise error("view_stride")
    return out


@op(name="_unsafe_view", promote="none", method=False, function=False, vjp=dict(input=lambda grad, input_shape: grad.reshape(input_shape)))
def _unsafe_view(input, size):
    return input.reshape(size)


@op(name="_contiguous_clone", node="CloneBackward0", promote="none", method=False, function=False, vjp=dict(input=lambda grad: grad))
def _contiguous_clone(input):
    return input.copy(order="C")


@op(composite=True, function=False)
def contiguous(input):
    return input if input._data.flags.c_contiguous else _contiguous_clone(input)


@op(
    name="_reshape_alias",
    promote="none",
    view=True,
    method=False,
    function=False,
    vjp=dict(input=lambda grad, input_shape: grad.reshape(input_shape)),
)
def _reshape_alias(input, size):
    return _viewed(input, size)


@op(composite=True, variadic="shape")
def reshape(input, shape):
    """A view where memory allows it, otherwise a copy (which is no view of anything)."""
    if input._data.flags.c_contiguous:
        return view(input, shape)
    shape = infer_size(shape, input._data.size)
    return _unsafe_view(_contiguous_clone(input), shape) if _viewed(input._data, shape) is None else _reshape_alias(input, shape)


@op(composite=True, function=False)
def view_as(input, other):
    return view(input, other._data.shape)


@op(composite=True, function=False)
def reshape_as(input, other):
    return reshape(input, other._data.shape)


@op(composite=True)
def flatten(input, start_dim=0, end_dim=-1):
    shape = input._data.shape
    start, end = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if start > end:
        raise error("flatten_order")
    if not shape:
        return reshape(input, (1,))
    return input if start == end else reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@op(composite=True)
def unflatten(input, dim, sizes):
    shape, sizes = input._data.shape, tuple(sizes)
    dim = wrap_dim(dim, len(shape))
    if not sizes:
        raise error("unflatten_empty")
    try:
        inner = infer_size(sizes, shape[dim])
    except RuntimeError as e:
        if getattr(e, "key", None) != "reshape_size":
            raise error("unflatten_unexpected", problem=e) from None
        raise error("unflatten_sizes", sizes=list(sizes), dim=dim, size=shape[dim]) from None
    return view(input, (*shape[:dim], *inner, *shape[dim + 1 :]))


@op(composite=True)
def ravel(input):
    return view(contiguous(input), (-1,))


# --- expand -----------------------------------------------------------------------------------------------------------


@op(
    promote="none",
    view=True,
    function=False,
    variadic="size",
    vjp=dict(input=lambda grad, input_shape: TABLE["sum_to_size"].public(grad, input_shape)),
)
def expand(input, size, *, implicit=False):
    extra = len(size) - input.ndim
    if not input.shape and size and 1 not in size and min(size) > 0:
        return np.ndarray(size, input.dtype, input, 0, (0,) * extra)
    if extra < 0:
        kind = OF[input.dtype].tensor_type if input.dtype in OF else "Tensor"
        raise error("expand_dims", tensor_type=kind, sizes=list(input.shape), targets=list(size), count=len(size), ndim=input.ndim)
    shape, strides = list(size), list(input.strides)
    for d, old in enumerate(input.shape):
        n = shape[d + extra]
        if n == -1:
            shape[d + extra] = old
        elif n != old:
            if old != 1 or n < 0:
                raise error("expand_size", target=n, size=old, dim=d + extra, targets=list(size), sizes=list(input.shape))
            strides[d] = 0
    return strided(input, shape, _leading(shape, strides, extra, input.itemsize))


def _leading(shape: list[int], strides: list[int], extra: int, itemsize: int) -> list[int]:
    """Strides with those of the dims that expand adds in front."""
    alone = not strides  # a tensor without dims: every stride is 0
    for d in range(extra - 1, -1, -1):
        if shape[d] < 0:
            raise error("expand_leading", n=shape[d], dim=d)
        inner = shape[d + 1] * strides[0] if strides else itemsize
        strides.insert(0, inner if shape[d] == 1 and not alone else 0)
    return strides


@op(composite=True, function=False)
def expand_as(input, other):
    return expand(input, other._data.shape)


@op(composite=True)
def broadcast_to(input, size):
    return expand(input, tuple(size))


# --- dims of size 1 ---------------------------------------------------------------------------------------------------


@op(promote="none", view=True, vjp=dict(input=lambda grad, dim: squeeze(grad, dim)))
def unsqueeze(input, dim):
    dim = wrap_dim(dim, input.ndim + 1)
    shape, strides = list(input.shape), list(input.strides)
    inner = shape[dim] * strides[dim] if dim < input.ndim else input.itemsize
    shape.insert(dim, 1)
    if input.flags.c_contiguous:
        return input.reshape(shape)
    strides.insert(dim, inner)
    return strided(input, shape, strides)


def _unsqueeze_to(grad: Tensor, dims: Any, shape: tuple[int, ...]) -> Tensor:
    """Puts the dims of size 1 among ``dims`` back."""
    for d in sorted(wrap_dims(dims, len(shape))) if shape else ():
        if shape[d] == 1:
            grad = unsqueeze(grad, d)
    return grad


@op(
    name="squeeze",
    promote="none",
    view=True,
    vjp=dict(input=lambda grad, input_shape: _unsqueeze_to(grad, range(len(input_shape)), input_shape)),
)
def _squeeze_all(input):
    return input.squeeze()


@op(
    name="squeeze",
    node="1",
    types={"dim": int},
    promote="none",
    view=True,
    vjp=dict(input=lambda grad, dim, input_shape: _unsqueeze_to(grad, (dim,), input_shape)),
)
def _squeeze_dim(input, dim):
    dim = wrap_dim(dim, input.ndim)
    return input.squeeze(dim) if input.ndim and input.shape[dim] == 1 else input[...]


@op(
    name="squeeze",
    node="2",
    types={"dim": (tuple, list)},
    promote="none",
    view=True,
    vjp=dict(input=lambda grad, dim, input_shape: _unsqueeze_to(grad, dim, input_shape)),
)
def _squeeze_dims(input, dim):
    dims = wrap_dims(dim, input.ndim)
    return input.squeeze(tuple([d for d in dims if input.shape[d] == 1])) if input.ndim else input[...]


squeeze: Any = TABLE["squeeze"].public

# --- order of dims ----------------------------------------------------------------------------------------------------


@op(promote="none", view=True, vjp=dict(input=lambda grad, dim0, dim1: transpose(grad, dim0, dim1)))
def transpose(input, dim0, dim1):
    dim0, dim1 = wrap_dim(dim0, input.ndim), wrap_dim(dim1, input.ndim)
    return input.swapaxes(dim0, dim1) if dim0 != dim1 else input[...]


@op(composite=True)
def swapaxes(input, axis0, axis1):
    return transpose(input, axis0, axis1)


@op(composite=True)
def swapdims(input, dim0, dim1):
    return transpose(input, dim0, dim1)


@op(promote="none", view=True, vjp=dict(input=lambda grad: t(grad)))
def t(input):
    if input.ndim > 2:
        raise error("t_ndim", ndim=input.ndim)
    return input.T


def _inverse(dims: Any) -> tuple[int, ...]:
    dims = [d % len(dims) for d in dims]
    return tuple([dims.index(d) for d in range(len(dims))])


@op(promote="none", view=True, variadic="dims", vjp=dict(input=lambda grad, dims: permute(grad, _inverse(dims))))
def permute(input, dims):
    if len(dims) != input.ndim:
        raise error("permute_ndim", ndim=input.ndim, given=len(dims))
    wrapped = [wrap_dim(d, input.ndim) for d in dims]
    if len(set(wrapped)) < len(wrapped):
        raise error("permute_twice")
    return input.transpose(wrapped)


@op(composite=True)
def movedim(input, source, destination):
    return _movedim(input, source, destination)


@op(composite=True)
def moveaxis(input, source, destination):
    return _movedim(input, source, destination)


def _movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    ndim = input._data.ndim
    sources, destinations = [list(d) if isinstance(d, (tuple, list)) else [d] for d in (source, destination)]
    if len(sources) != len(destinations):
        raise error("movedim_count", source=sources, destination=destinations)
    sources, destinations = [[wrap_dim(d, ndim) for d in dims] for dims in (sources, destinations)]
    for which, dims in (("source", sources), ("destination", destinations)):
        if len(set(dims)) < len(dims):
            raise error("movedim_twice", which=which, dims=dims)
    if not ndim:
        return TABLE["_alias"].public(input)
    order = [d for d in range(ndim) if d not in sources]
    for to, d in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, d)
    return permute(input, tuple(order))


@op(composite=True)
def adjoint(input):
    if not input._data.ndim:  # deprecated, as torch warns
        return input
    return _matrix_transpose(input, "mH")


def _matrix_transpose(input: Tensor, name: str) -> Tensor:
    if input._data.ndim < 2:
        raise error("matrices_only", name=name, ndim=input._data.ndim)
    return transpose(input, -2, -1)


def _reversed_dims(input: Tensor) -> Tensor:
    ndim = input._data.ndim
    if ndim not in (0, 2):
        warnings.warn(
            "The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will throw an error in "
            "a future release. Consider `x.mT` to transpose batches of matrices or `x.permute(*torch.arange(x.ndim - 1, -1, -1))` to "
            "reverse the dimensions of a tensor.",
            stacklevel=2,
        )
    return permute(input, tuple(range(ndim - 1, -1, -1)))


def _conjugate_transpose(input: Tensor) -> Tensor:
    if input._data.ndim not in (0, 2):
        raise error(
            "h_ndim", ndim=input._data.ndim, advice=" For batches of matrices, consider using tensor.mH" if input._data.ndim > 2 else ""
        )
    return transpose(input, 0, 1) if input._data.ndim else permute(input, ())


Tensor.H = property(_conjugate_transpose)  # type: ignore[attr-defined]
Tensor.T = property(_reversed_dims)  # type: ignore[attr-defined]
Tensor.mT = property(lambda self: _matrix_transpose(self, "mT"))  # type: ignore[attr-defined]
Tensor.mH = property(lambda self: _matrix_transpose(self, "mH"))  # type: ignore[attr-defined]

# --- select, slice ----------------------------------------------------------------------------------------------------


@op(
    name="_select_backward",
    promote="none",
    error="exact",
    method=False,
    function=False,
    tensors=("input",),
    vjp=dict(input=lambda grad, dim, index: select(grad, dim, index)),
)
def _select_backward(input, shape, dim, index):
    zeros = np.zeros(shape, input.dtype)
    zeros[_along(wrap_dim(dim, len(shape)), index)] = input
    return zeros


@op(
    promote="none",
    view=True,
    tensors=("input",),
    vjp=dict(input=lambda grad, input_shape, dim, index: _select_backward(grad, input_shape, dim, index)),
)
def select(input, dim, index):
    if not input.ndim:
        raise error("select_0d")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    if not -size <= index < size:
        raise error("select_range", index=index, shape=list(input.shape), dim=dim)
    return input[_along(dim, index)]


@op(
    name="_slice_backward",
    tensors=("input",),
    promote="none",
    error="exact",
    method=False,
    function=False,
    vjp=dict(input=lambda grad, dim, start, end, step: _slice(grad, dim, start, end, step)),
)
def _slice_backward(input, shape, dim, start, end, step):
    zeros = np.zeros(shape, input.dtype)
    zeros[_along(wrap_dim(dim, len(shape)), slice(start, end, step))] = input
    return zeros


@op(
    name="slice",
    tensors=("input",),
    promote="none",
    view=True,
    method=False,
    function=False,
    vjp=dict(input=lambda grad, input_shape, dim, start, end, step: _slice_backward(grad, input_shape, dim, start, end, step)),
)
def _slice(input, dim=0, start=None, end=None, step=1):
    if not input.ndim:
        raise error("slice_0d")
    dim = wrap_dim(dim, input.ndim)
    if step <= 0:
        raise error("slice_step")
    out = input[_along(dim, slice(start, end, step))]
    return out if out.size else _empty_slice(input, dim, start, step, out.shape)


def _empty_slice(input: np.ndarray, dim: int, start: Any, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """numpy starts an empty slice at its array's first element, torch where it was asked to start."""
    start = slice(start, None).indices(input.shape[dim])[0]
    strides = list(input.strides)
    offset = start * strides[dim]
    strides[dim] *= step
    return strided(input, shape, strides, offset) if input.size else np.ndarray(shape, input.dtype, memory(input), 0, strides)


@op(composite=True)
def narrow(input, dim, start, length):
    shape = input._data.shape
    if not shape:
        raise error("narrow_0d")
    if length < 0:
        raise error("narrow_length")
    size = shape[wrap_dim(dim, len(shape))]
    if not -size <= start <= size:
        raise error("narrow_start", low=-size, high=size, start=start)
    start = start + size if start < 0 else start
    if start + length > size:
        raise error("narrow_exceeds", start=start, length=length, size=size)
    return _slice(input, dim, start, start + length, 1)


# --- diagonals --------------------------------------------------------------------------------------------------------


def _diagonal(input: np.ndarray, offset: int, dim1: int, dim2: int) -> np.ndarray:
    dim1, dim2 = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if dim1 == dim2:
        raise error("diagonal_same", dim1=dim1, dim2=dim2)
    rows, columns, strides = input.shape[dim1], input.shape[dim2], input.strides
    size = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    start = (offset * strides[dim2] if offset >= 0 else -offset * strides[dim1]) if size else 0
    others = [d for d in range(input.ndim) if d not in (dim1, dim2)]
    return strided(input, [*(input.shape[d] for d in others), size], [*(strides[d] for d in others), strides[dim1] + strides[dim2]], start)


@op(
    name="_diagonal_backward",
    promote="none",
    error="exact",
    method=False,
    function=False,
    vjp=dict(input=lambda grad, offset, dim1, dim2: diagonal(grad, offset, dim1, dim2)),
)
def _diagonal_backward(input, shape, offset, dim1, dim2):
    zeros = np.zeros(shape, input.dtype)
    _diagonal(zeros, offset, dim1, dim2)[...] = input
    return zeros


@op(
    promote="none",
    view=True,
    vjp=dict(input=lambda grad, input_shape, offset, dim1, dim2: _diagonal_backward(grad, input_shape, offset, dim1, dim2)),
)
def diagonal(input, offset=0, dim1=0, dim2=1):
    return _diagonal(input, offset, dim1, dim2)


@op(
    name="_diagonal_copy",
    promote="none",
    error="exact",
    method=False,
    function=False,
    node="DiagonalBackward0_copy",
    vjp=dict(input=lambda grad, input_shape, offset: _diagonal_backward(grad, input_shape, offset, 0, 1)),
)
def _diagonal_copy(input, offset):
    return _diagonal(input, offset, 0, 1).copy()


@op(promote="none", error="exact", vjp=dict(input=lambda grad, offset, dim1, dim2: diagonal(grad, offset, dim1, dim2)))
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    ndim = input.ndim + 1
    dim1, dim2 = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if dim1 == dim2:
        raise error("diagonal_same", dim1=dim1, dim2=dim2)
    size = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for d in sorted((dim1, dim2)):
        shape.insert(d, size)
    zeros = np.zeros(shape, input.dtype)
    _diagonal(zeros, offset, dim1, dim2)[...] = input
    return zeros


@op(composite=True)
def diag(input, diagonal=0):
    ndim = input._data.ndim
    if ndim not in (1, 2):
        raise error("diag_ndim", ndim=ndim)
    return diag_embed(input, diagonal) if ndim == 1 else _diagonal_copy(input, diagonal)


# --- unfold -----------------------------------------------------------------------------------------------------------


def _unfold(input: np.ndarray, dimension: int, size: int, step: int) -> np.ndarray:
    dimension = wrap_dim(dimension, input.ndim)
    largest = input.shape[dimension] if input.ndim else 1
    if size < 0:
        raise error("unfold_negative", size=size)
    if size > largest:
        raise error("unfold_size", dim=dimension, largest=largest, size=size)
    if step <= 0:
        raise error("unfold_step", step=step)
    shape, strides = [*input.shape, size], [*input.strides, input.strides[dimension] if input.ndim else input.itemsize]
    if input.ndim:
        shape[dimension] = (largest - size) // step + 1
        strides[dimension] *= step
    return strided(input, shape, strides)


@op(
    name="_unfold_backward",
    promote="none",
    error="linear",
    method=False,
    function=False,
    ulps=lambda input, shape, dimension, size, step: float(max(-(-size // step) - 1, 0)),
    reason="a sum of the windows that hold an element",
    vjp=dict(input=lambda grad, dimension, size, step: unfold(grad, dimension, size, step)),
)
def _unfold_backward(input, shape, dimension, size, step):
    zeros = np.zeros(shape, input.dtype)
    windows = _unfold(zeros, dimension, size, step)
    for i in range(size):
        windows[..., i] += input[..., i]
    return zeros


@op(
    promote="none",
    view=True,
    function=False,
    vjp=dict(input=lambda grad, input_shape, dimension, size, step: _unfold_backward(grad, input_shape, dimension, size, step)),
)
def unfold(input, dimension, size, step):
    return _unfold(input, dimension, size, step)


# --- as_strided -------------------------------------------------------------------------------------------------------


def _as_strided(input: np.ndarray, size: Any, stride: Any, storage_offset: int | None) -> np.ndarray:
    whole, item = memory(input), input.itemsize
    offset = storage_offset
    if offset is None:
        offset = (address(input) - address(whole)) // item if whole.size else 0
    _check_strided(size, stride, offset)
    needed = (offset + _extent(size, stride)) * item if 0 not in size else 0
    if needed > whole.nbytes:
        raise error("storage_bounds", size=list(size), stride=list(stride), offset=offset, itemsize=item, needed=needed, held=whole.nbytes)
    return np.ndarray(size, input.dtype, whole, min(offset * item, whole.nbytes), [s * item for s in stride])


def _check_strided(size: Any, stride: Any, offset: int) -> None:
    if len(size) != len(stride):
        raise error("strides_count")
    if min(stride, default=0) < 0:
        raise error("strides_negative", stride=list(stride))
    if min(size, default=0) < 0:
        raise error("size_overflow", size=list(size), stride=list(stride))
    if offset < 0:
        raise error("storage_offset", offset=offset)


def _extent(size: Any, stride: Any) -> int:
    """How many places lie between the first and the last element, both included."""
    return 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))


def _strided_radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: Any) -> Any:
    if radii[0] is None:
        return None
    input, size, stride, storage_offset = values
    whole = memory(input)
    held = np.zeros(whole.shape)
    start = (address(input) - address(whole)) // input.itemsize
    np.ndarray(input.shape, held.dtype, held, start * 8, [s // input.itemsize * 8 for s in input.strides])[...] = radii[0]
    return _as_strided(held, size, stride, start if storage_offset is None else storage_offset)


@op(
    promote="none",
    view=True,
    radius=_strided_radius,
    vjp=dict(
        input=lambda grad, size, stride, storage_offset, input_geometry: _as_strided_backward(
            grad, size, stride, storage_offset, input_geometry
        )
    ),
)
def as_strided(input, size, stride, storage_offset=None):
    return _as_strided(input, tuple(size), tuple(stride), storage_offset)


def _as_strided_backward(grad: Tensor, size: Any, stride: Any, storage_offset: int | None, input_geometry: Any) -> Tensor:
    """Adds the gradient up by places in the storage, then reads it off where the input is; elements that share a place get equal parts."""
    shape, strides, offset = input_geometry
    start = offset if storage_offset is None else storage_offset
    if 0 in size or 0 in shape:
        return _new_zeros(grad, shape)
    grad, size, stride = _sum_repeated(grad, size, stride)
    first = min(offset, start)
    count = max(offset + _extent(shape, strides), start + _extent(size, stride)) - first
    storage = _new_zeros(grad, (count,))
    if _overlaps(size, stride) or grad.__class__ is ExactTensor:
        storage = write_into(storage, "index_add", 0, _places(size, stride, start - first), reshape(grad, (-1,)))
    else:
        TABLE["copy"].inplace_public(as_strided(storage, size, stride, start - first), grad)
    if _overlaps(shape, strides):
        places = _places(shape, strides, offset - first)
        storage = write_into(
            storage,
            "div",
            write_into(_new_zeros(grad, (count,)), "index_add", 0, places, TABLE["new_ones"].public(grad, places._data.shape)),
        )
    return as_strided(storage, shape, strides, offset - first)


def _sum_repeated(grad: Tensor, size: Any, stride: Any) -> tuple[Tensor, list[int], list[int]]:
    """The gradient summed over the dims of stride 0, which name the same places, and without dims of size 1."""
    sizes: list[int] = []
    strides: list[int] = []
    for d in range(len(size) - 1, -1, -1):
        if size[d] == 1:
            grad = squeeze(grad, d)
        elif stride[d] == 0:
            grad = TABLE["sum"].public(grad, d, False)
        else:
            sizes.insert(0, size[d])
            strides.insert(0, stride[d])
    return grad, sizes, strides


def _overlaps(size: Any, stride: Any) -> bool:
    return overlaps_itself(np.ndarray(size, np.int8, np.empty(_extent(size, stride), np.int8), 0, stride))


def _places(size: Any, stride: Any, start: int) -> Tensor:
    """The place in the storage of every element, in index order. Shape: flat."""
    places: Any = np.full((), start, np.int64)
    for n, s in zip(size, stride, strict=True):
        places = places[..., None] + np.arange(n) * s
    return make(places.reshape(-1))


@op(composite=True, method=False, function=False)
def as_contiguous_like(input, geometry):
    """A fresh tensor laid out like one of that geometry, holding ``input``: what a write through a view sends its gradient through."""
    shape, strides, _ = geometry
    array = input._data
    if input.__class__ is ExactTensor:
        return TABLE["clone"].public(input)
    count = 0 if 0 in shape else _extent(shape, strides)
    laid = make(np.ndarray(shape, array.dtype, np.empty(count, array.dtype), 0, [s * array.itemsize for s in strides]))
    return TABLE["copy"].inplace_public(laid, input)


# --- alias, detach ----------------------------------------------------------------------------------------------------


@op(name="_alias", promote="none", view=True, method=False, function=False, vjp=dict(input=lambda grad: grad))
def _alias(input):
    return input[...]


@op(composite=True)
def detach(input):
    """Shares memory and version counter, is no view (as torch has it) and has no history."""
    out = Tensor.__new__(input.__class__)
    out._data, out._storage = input._data, own_storage(input)
    out._inference = input._inference
    if input._exact is not None:
        out._exact = input._exact
    return out


@op(name="detach_", composite=True)
def _detach_inplace(input):
    if input._view is not None:
        raise error("detach_view")
    input._node, input._nr, input._rg = None, 0, False
    return input


# --- copies in another order ------------------------------------------------------------------------------------------


@op(promote="none", error="exact", variadic="dims", vjp=dict(input=lambda grad, dims: flip(grad, dims)))
def flip(input, dims):
    out = empty_as(input, input.dtype)
    flipped = wrap_dims(dims, input.ndim)
    out[...] = input[tuple([slice(None, None, -1) if d in flipped else slice(None) for d in range(input.ndim)])]
    return out


@op(composite=True)
def fliplr(input):
    if input._data.ndim < 2:
        raise error("flip_ndim", name="fliplr", least=2)
    return flip(input, (1,))


@op(composite=True)
def flipud(input):
    if input._data.ndim < 1:
        raise error("flip_ndim", name="flipud", least=1)
    return flip(input, (0,))


def _as_list(value: Any) -> list[int]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _roll_back(grad: Tensor, shifts: Any, dims: Any) -> Tensor:
    return roll(grad, tuple([-s for s in _as_list(shifts)[::-1]]), tuple(_as_list(dims)[::-1]))


@op(promote="none", error="exact", vjp=dict(input=_roll_back))
def roll(input, shifts, dims=()):
    shifts, dims = _as_list(shifts), _as_list(dims)
    if not shifts:
        raise error("roll_shifts")
    if len(shifts) == 1 and not dims:
        return np.asarray(np.roll(input, shifts[0]), order="C").reshape(input.shape)
    if len(shifts) != len(dims):
        raise error("roll_align", shifts=len(shifts), dims=len(dims))
    if not input.size:  # nothing moves, and torch looks at no dim
        return np.array(input, order="C")
    if not input.ndim:
        raise error("no_dims", dim=dims[0])
    return np.asarray(np.roll(input, shifts, [wrap_dim(d, input.ndim) for d in dims]), order="C")


@op(promote="none", error="exact", vjp=dict(input=lambda grad, k, dims: rot90(grad, -k, dims)))
def rot90(input, k=1, dims=(0, 1)):
    if len(dims) != 2:
        raise error("rot90_count", count=len(dims))
    if input.ndim < 2:
        raise error("rot90_ndim", ndim=input.ndim)
    if dims[0] == dims[1] or abs(dims[0] - dims[1]) == input.ndim:
        raise error("rot90_same", dim0=dims[0], dim1=dims[1])
    for d in dims:
        wrap_dim(d, input.ndim)
    if k % 4 == 0:
        return input.copy(order="C")
    out = empty_as(input, input.dtype)
    out[...] = np.flip(input, {1: dims[1], 2: tuple(dims), 3: dims[0]}[k % 4])
    return out if k % 4 == 2 else out.swapaxes(*dims)


def _repeat_backward(grad: Tensor, repeats: Any, input_shape: tuple[int, ...]) -> Tensor:
    if 0 in repeats:
        return written_zeros(grad, input_shape)
    extra = len(repeats) - len(input_shape)
    for _ in range(extra):
        grad = TABLE["sum"].public(grad, 0, False)
    size: list[int] = []
    summed = []
    for repeat, n in zip(repeats[extra:], input_shape, strict=True):
        if repeat != 1:
            summed.append(len(size))
            size.append(repeat)
        size.append(n)
    return TABLE["sum"].public(reshape(grad, tuple(size)), tuple(summed), False) if summed else grad


@op(promote="none", error="exact", function=False, variadic="repeats", vjp=dict(input=_repeat_backward))
def repeat(input, repeats):
    if len(repeats) < input.ndim:
        raise error("repeat_ndim")
    shape = (1,) * (len(repeats) - input.ndim) + input.shape
    target = [n * r for n, r in zip(shape, repeats, strict=True)]
    if min(target, default=0) < 0:
        raise error("negative_size", dim=min(target), size=", ".join(map(str, target)))
    return np.ascontiguousarray(np.tile(input, repeats)).reshape(target) if 0 not in target else np.empty(target, input.dtype)


@op(composite=True, variadic="dims")
def tile(input, dims):
    return repeat(input, (1,) * (input._data.ndim - len(dims)) + tuple(dims))


@op(composite=True)
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Every element ``repeats`` times, along a dim or of the flat tensor; ``repeats`` alone (a tensor) gives the indices."""
    if repeats is None:
        return _interleaved_places(input)
    if dim is None:
        input, dim = flatten(input), 0
    dim = wrap_dim(dim, input._data.ndim)
    if isinstance(repeats, Tensor):
        size = input._data.shape[dim] if input._data.ndim else 1
        if repeats._data.size not in (1, size):
            raise error("interleave_size", repeats=repeats._data.size, dim=dim, size=size)
        return TABLE["index_select"].public(input, dim, _interleaved_places(expand(reshape(repeats, (-1,)), (size,))))
    count = int(repeats)
    if count < 0:
        raise error("interleave_negative")
    shape = input._data.shape
    wide = expand(unsqueeze(input, dim + 1), (*shape[: dim + 1], count, *shape[dim + 1 :]))
    return flatten(_contiguous_clone(wide), dim, dim + 1)


def _interleaved_places(repeats: Tensor) -> Tensor:
    if repeats._data.size and repeats._data.min() < 0:
        raise error("interleave_negative")
    return make(np.repeat(np.arange(repeats._data.size), repeats._data))


@op(promote="none", error="exact", inplace=True, checks_overlap=False, vjp=dict(input=lambda grad, diagonal: tril(grad, diagonal)))
def tril(input, diagonal=0):
    if input.ndim < 2:
        raise error("triangle_ndim", name="tril")
    return np.ascontiguousarray(np.tril(input, diagonal))


@op(promote="none", error="exact", inplace=True, checks_overlap=False, vjp=dict(input=lambda grad, diagonal: triu(grad, diagonal)))
def triu(input, diagonal=0):
    if input.ndim < 2:
        raise error("triangle_ndim", name="triu")
    return np.ascontiguousarray(np.triu(input, diagonal))
