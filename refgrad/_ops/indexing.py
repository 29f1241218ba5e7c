"""Indexing: by numbers and slices (views), by tensors and masks (copies), and the ops that pick or write elements by index.

Index tensors are never differentiated. Which of its operands an op saves is torch's (gather and take keep their input for its shape alone).
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dispatch import broadcast_shapes
from refgrad._dtypes import CPP_NAMES, ELEMENT_NAMES, FLOAT, OF, narrow
from refgrad._errors import declare, error
from refgrad._ops.creation import empty_as, scalar_for
from refgrad._ops.reduction import DIM
from refgrad._ops.view import (
    _along,
    _new_zeros,
    _slice,
    expand,
    reshape,
    select,
    squeeze,
    strided,
    unsqueeze,
    view,
    wrap_dim,
    write_into,
    written_zeros,
)
from refgrad._storage import laid_out
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor, make

_BOUNDS = "index {index} is out of bounds for dimension {dim} with size {size}"
declare("index_bounds", IndexError, _BOUNDS)
declare("index_bounds_runtime", RuntimeError, _BOUNDS, in_kernel=True)
declare("index_bounds_empty", IndexError, "index is out of bounds for dimension with size 0")
declare(
    "index_0d",
    IndexError,
    "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim tensor to a number",
)
declare("index_too_many", IndexError, "too many indices for tensor of dimension {ndim}")
declare("index_too_many_given", IndexError, "too many indices for tensor of dimension {ndim} (got {count})")
declare(
    "index_kind",
    IndexError,
    "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got {kind})",
)
declare("index_dtype", IndexError, "tensors used as indices must be long, int, byte or bool tensors")
declare(
    "index_mask",
    IndexError,
    "The shape of the mask {mask} at index {place} does not match the shape of the indexed tensor {shape} at index {dim}",
)
declare("index_broadcast", IndexError, "shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}")
declare("index_step", ValueError, "step must be greater than zero")
declare("index_step_zero", ValueError, "slice step cannot be zero")
declare("index_text", TypeError, "new(): invalid data type 'str'")
declare("setitem_kind", TypeError, "can't assign a {kind} to a torch.{tensor}")
declare(
    "index_put_dtype",
    RuntimeError,
    "Index put requires the source and destination dtypes match, got {destination} for the destination and {source} for the source.",
)
declare(
    "index_put_shape",
    RuntimeError,
    "shape mismatch: value tensor of shape {value} cannot be broadcast to indexing result of shape {result}",
)
declare("along_dtype", RuntimeError, "{name}(): Expected dtype int32/int64 for index")
declare("along_ndim", RuntimeError, "Index tensor must have the same number of dimensions as {other} tensor")
declare(
    "gather_size",
    RuntimeError,
    "Size does not match at dimension {place} expected index {index} to be no larger than self {shape} apart from dimension {dim}",
)
declare("scatter_size", RuntimeError, "Expected index {index} to be no larger than self {shape} apart from dimension {dim}")
declare(
    "scatter_src_size",
    RuntimeError,
    "Expected index {index} to be no larger than self {shape} apart from dimension {dim} and to be no larger size than src {src}",
)
declare("scatter_dtype", RuntimeError, "scatter(): Expected self.dtype to be equal to src.dtype")
declare("select_vector", IndexError, "index_select(): Index is supposed to be a vector")
declare("select_dtype", RuntimeError, "index_select(): Expected dtype int32 or int64 for index")
declare("select_bounds", IndexError, "index out of range in self")
# never raised here: torch's matrix path
declare("select_bounds_fast", RuntimeError, "INDICES element is out of DATA bounds, id={index} axis_dim={size}")
declare("select_scalar", RuntimeError, "index_select(): Index to scalar can have only 1 value, got {count} value(s)")
declare("add_vector", IndexError, "index_add_(): Index is supposed to be a vector, but got dim: {ndim} with type: {kind} and size: {size}")
declare("add_index_dtype", RuntimeError, "index_add_(): Expected dtype int32/int64 for index but got: {kind}")
declare("add_dtype", RuntimeError, "index_add_(): self ({input}) and source ({source}) must have the same scalar type")
declare(
    "add_count",
    RuntimeError,
    "index_add_(): Number of indices ({count}) should be equal to source.size(dim): ({size}), for dim: {dim}",
)
declare(
    "add_shape",
    RuntimeError,
    "source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = {input} source.shape = {source}",
)
declare("copy_vector", IndexError, "index_copy_(): Index should have dimension 1 or 0 (got {ndim})")
declare("copy_scalar", IndexError, "index_copy_(): When source is scalar, index should have one element (got {count})")
declare(
    "copy_ndim",
    IndexError,
    "index_copy_(): When source and destination are not scalars, their dimensionality must match. Source "
    "dimensionality ({source}), destination dimensionality ({input})",
)
declare("copy_index_dtype", RuntimeError, "index_copy_(): Expected a long tensor for index, but got {kind}", in_kernel=True)
declare(
    "copy_dtype",
    RuntimeError,
    "index_copy_(): self and source expected to have the same dtype, but got (self) {input} and (source) {source}",
    in_kernel=True,
)
declare(
    "copy_shape",
    RuntimeError,
    "index_copy_(): Source/destination tensor must have same slice shapes. Destination slice shape: {input} at "
    "dimension {dim} and source slice shape: {source} at dimension 0.",
)
declare("copy_count", IndexError, "index_copy_(): Number of indices ({count}) should be equal to source.size(dim) ({size})")
declare("copy_bounds", IndexError, "index_copy_(): index {index} is out of bounds for dimension {dim} with size {size}", in_kernel=True)
declare("fill_dtype", IndexError, "index_fill_(): Expected dtype int64 for index.")
declare("fill_vector", RuntimeError, "Index has to be a vector/scalar")
declare("value_0d", RuntimeError, "{name}_ only supports a 0-dimensional value tensor, but got tensor with {ndim} dimension(s).")
declare("masked_fill_mask", RuntimeError, "masked_fill_ only supports boolean masks, but got mask with dtype {dtype}")
declare("masked_select_mask", RuntimeError, "masked_select: expected BoolTensor for mask")
declare("masked_scatter_mask", RuntimeError, "masked_scatter_ only supports boolean masks, but got mask with dtype {dtype}")
declare("masked_scatter_dtype", RuntimeError, "masked_scatter: expected self and source to have same dtypes but got{input} and {source}")
declare("masked_scatter_count", RuntimeError, "Number of elements of source < number of ones in mask")
declare("long_index", RuntimeError, "{name}(): Expected a long tensor for index, but got {kind}")
declare("take_bounds", IndexError, "out of range: tried to access index {index} on a tensor of {numel} elements.", in_kernel=True)
declare(
    "put_count",
    IndexError,
    "put_(): Expected source and index to have the same number of elements, but got source.numel() = {source}, index.numel() = {index}",
)
declare(
    "put_dtype",
    RuntimeError,
    "put_(): self and source expected to have the same dtype, but got self.dtype = {input} and source.dtype = {source}",
)
declare(
    "take_along_ndim",
    RuntimeError,
    "torch.take_along_dim(): input and indices should have the same number of dimensions, but got {input} "
    "dimensions for input, and {indices} dimensions for indices",
)
declare("take_along_dtype", RuntimeError, "torch.take_along_dim(): dtype of indices should be Long but got {kind}")
declare("topk_range", RuntimeError, "selected index k out of range")
declare("topk_bool", RuntimeError, "topk does not support bool dtypes on CPU")

# --- what the forwards share ------------------------------------------------------------------------------------------


def _kind(array: np.ndarray) -> str:
    """A dtype as torch's messages name it: ``Long``, ``Float``."""
    return OF[array.dtype].scalar_type if array.dtype in OF else str(array.dtype)


def _clone(input: np.ndarray) -> np.ndarray:
    """A copy in the memory order that torch's ``clone`` keeps."""
    out = empty_as(input, input.dtype)
    out[...] = input
    return out


def _is_index(array: np.ndarray) -> bool:
    return array.dtype in (np.int64, np.int32)


def _check_bounds(index: np.ndarray, size: int, raise_for: Any, lowest: int = 0) -> None:
    """Raises what ``raise_for`` gives for the first index outside of [lowest, size)."""
    flat = index.reshape(-1)
    if flat.size and (np.minimum.reduce(flat) < lowest or np.maximum.reduce(flat) >= size):
        raise raise_for(int(flat[(flat < lowest) | (flat >= size)][0]))


def _bounds_error(key: str, dim: int, size: int) -> Any:
    return lambda index: error(key, index=index, dim=dim, size=size)


def _fill_radius(places: Any) -> Any:
    """How far the filled-in number is from the one that the nominal dtype holds, at the places that ``places(values)`` marks."""

    def radius(values: list[Any], radii: list[Any], results: list[np.ndarray], nominal: Any) -> Any:
        filled = places(values, results[0].shape)
        value, carried = values[-1], radii[0]
        total = np.zeros(results[0].shape) if carried is None else np.where(filled, 0.0, np.broadcast_to(carried, results[0].shape))
        if isinstance(value, np.ndarray):
            return total if radii[-1] is None else total + np.where(filled, radii[-1], 0.0)
        if not math.isfinite(value):
            return total
        return total + np.where(filled, abs(float(narrow(np.asarray(value, np.float64), nominal.np)) - value), 0.0)

    return radius


# --- indexing by tensors ----------------------------------------------------------------------------------------------


def _integers(input: np.ndarray, indices: Any) -> dict[int, np.ndarray]:
    """dim of the input → broadcast integer index; masks become the places where they hold, None leaves a dim out. Raises torch's errors."""
    found: dict[int, np.ndarray] = {}
    dim = 0
    for index in indices:
        if index is None:
            dim += 1
            continue
        if index.dtype in (np.bool_, np.uint8):
            for k, n in enumerate(index.shape):
                if dim + k >= input.ndim or n != input.shape[dim + k]:
                    raise error("index_mask", mask=list(index.shape), place=k, shape=list(input.shape), dim=dim + k)
            found.update({dim + k: places for k, places in enumerate(np.nonzero(index))})
            dim += index.ndim
        elif _is_index(index):
            found[dim] = index
            dim += 1
        else:
            raise error("index_dtype")
    if dim > input.ndim:
        raise error("index_too_many_given", ndim=input.ndim, count=dim)
    if len(found) == 1:
        return found
    try:
        arrays = np.broadcast_arrays(*found.values())
    except ValueError:
        raise error("index_broadcast", shapes=", ".join(str(list(i.shape)) for i in found.values())) from None
    return dict(zip(found, arrays, strict=True))


def _key(input: np.ndarray, arrays: dict[int, np.ndarray]) -> tuple[Any, ...]:
    return tuple([arrays.get(d, slice(None)) for d in range(input.ndim)])


def _replaced(input: np.ndarray, arrays: dict[int, np.ndarray]) -> tuple[int, tuple[int, ...]]:
    """How many dims stand before the indexed ones in the result (which go to its front if they are no neighbours), and the other dims."""
    dims = sorted(arrays)
    others = tuple([d for d in range(input.ndim) if d not in arrays])
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    return (dims[0] if adjacent else 0), others


def _result_shape(input: np.ndarray, arrays: dict[int, np.ndarray]) -> tuple[int, ...]:
    before, others = _replaced(input, arrays)
    shape = [input.shape[d] for d in others]
    return (*shape[:before], *next(iter(arrays.values())).shape, *shape[before:])


def _check_indices(input: np.ndarray, arrays: dict[int, np.ndarray]) -> None:
    """Raises torch's error for the first element of the indices that is out of bounds."""
    for d, index in arrays.items():
        if input.shape[d] == 0 and index.size and 0 not in [input.shape[o] for o in range(input.ndim) if o not in arrays]:
            raise error("index_bounds_empty")
    if 0 in _result_shape(input, arrays):
        return
    bad = [(index < -input.shape[d]) | (index >= input.shape[d]) for d, index in arrays.items()]
    if not any(b.any() for b in bad):
        return
    first = np.argmax(np.any([b.reshape(-1) for b in bad], axis=0))
    for place, (b, (d, index)) in enumerate(zip(bad, arrays.items(), strict=True)):
        if b.reshape(-1)[first]:  # torch counts the index tensors, not the dims
            raise error("index_bounds", index=int(index.reshape(-1)[first]), dim=place, size=input.shape[d])


def _picked(input: np.ndarray, arrays: dict[int, np.ndarray]) -> np.ndarray:
    """The elements, in the memory order in which torch's kernel leaves them."""
    try:
        out = np.asarray(input[_key(input, arrays)], order="C")
    except IndexError:
        _check_indices(input, arrays)
        return np.empty(_result_shape(input, arrays), input.dtype)  # nothing to pick, so torch looks at no index
    if not out.size or (input.flags.c_contiguous and all(a.ndim < 2 or a.flags.c_contiguous for a in arrays.values())):
        return out
    shape = out.shape
    before, others = _replaced(input, arrays)
    inner = next(iter(arrays.values()))
    strides = [input.strides[d] for d in others]
    restrided = strided(input, shape, [*strides[:before], *[0] * inner.ndim, *strides[before:]])
    after = len(others) - before
    return laid_out(out, [restrided, *[a[(None,) * before + (..., *[None] * after)] for a in arrays.values()]])


@op(
    name="index",
    promote="none",
    error="exact",
    method=False,
    function=False,
    tensors=("input", "indices"),
    vjp=dict(input=lambda grad, indices, input_shape: write_into(_new_zeros(grad, input_shape), "_index_put_impl", indices, grad, True)),
)
def index(input, indices):
    return _picked(input, _integers(input, indices))


def _is_one_mask(indices: Any) -> bool:
    """Whether one mask indexes alone. Raises torch's error for one of bytes, which it takes for a mask up to the filling."""
    given = [i.dtype for i in indices if i is not None]
    if given == [np.uint8]:
        raise error("masked_fill_mask", dtype=CPP_NAMES["uint8"])
    return given == [np.bool_]


def _put(input: np.ndarray, indices: Any, values: np.ndarray, accumulate: bool) -> np.ndarray:
    arrays = _integers(input, indices)
    if not accumulate and values.size == 1 and _is_one_mask(indices):
        values = narrow(values, input.dtype)  # torch fills through the mask
    if values.dtype != input.dtype:
        raise error("index_put_dtype", destination=_kind(input), source=_kind(values))
    shape = _result_shape(input, arrays)
    extra = len(shape) - values.ndim
    if extra < 0 or any(n not in (1, m) for n, m in zip(values.shape, shape[max(extra, 0) :], strict=False)):
        raise error("index_put_shape", value=list(values.shape), result=list(shape))
    _check_indices(input, arrays)
    out = _clone(input)
    if 0 in shape:
        return out
    if accumulate:
        np.add.at(out, _key(input, arrays), values)
    else:
        out[_key(input, arrays)] = values
    return out


def _put_scale(input, indices, values, accumulate):
    return _put(np.abs(input), indices, np.abs(values), accumulate)


def _put_ulps(input, indices, values, accumulate):
    """How many values are added at each place."""
    counts = np.zeros(input.shape)
    return _put(counts, indices, np.ones(values.shape), True) if accumulate else counts


_ADDED = "one rounding per value added, relative to the sum of magnitudes"
_PUT = dict(
    promote="none",
    error="linear",
    inplace=True,
    apart=True,
    checks_overlap=False,
    tensors=("input", "indices", "values"),
    ulps=_put_ulps,
    scale=_put_scale,
    reason=_ADDED,
    vjp=dict(
        input=lambda grad, indices, values_shape, accumulate: (
            grad if accumulate else index_put(grad, indices, _new_zeros(grad, values_shape), False)
        ),
        values=lambda grad, indices: index(grad, indices),
    ),
)


@op(**_PUT)
def index_put(input, indices, values, accumulate=False):
    return _put(input, indices, values, accumulate)


@op(name="_index_put_impl", method=False, function=False, **_PUT)
def _index_put_impl(input, indices, values, accumulate=False):
    return _put(input, indices, values, accumulate)


# --- Tensor.__getitem__ -----------------------------------------------------------------------------------------------


def _select_item(input: Tensor, dim: int, position: int, place: int) -> Tensor:
    shape = input._data.shape
    if not shape:
        raise error("index_0d")
    size = shape[dim]
    if not -size <= position < size:
        raise error("index_bounds", index=position, dim=place, size=size)
    return select(input, dim, position)


def _bounds(part: slice) -> tuple[Any, Any, int]:
    step = 1 if part.step is None else _slice_index(part.step)
    if step <= 0:
        raise error("index_step") if step else error("index_step_zero")
    return _slice_index(part.start), _slice_index(part.stop), step


def _slice_index(value: Any) -> Any:
    if value is None or value.__class__ is int:
        return value
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError("slice indices must be integers or None or have an __index__ method") from None


def _plain_parts(key: Any, ndim: int) -> bool:
    """Whether the key is a tuple of ints and slices, not too many."""
    if key.__class__ is not tuple or len(key) > ndim:
        return False
    for part in key:
        kind = part.__class__
        if kind is not int and kind is not slice:
            return False
    return True


def getitem(input: Tensor, key: Any) -> Tensor:
    """``input[key]``: a view for numbers, slices, None and the ellipsis, a copy where a tensor, a list or a bool takes part."""
    kind = key.__class__
    if kind is int:
        return _select_item(input, 0, key, 0)
    if kind is slice:
        start, stop, step = _bounds(key)
        if not input._data.ndim:
            raise error("slice_0d")
        return _slice(input, 0, start, stop, step)
    if key is None:
        return unsqueeze(input, 0)
    viewed, indices = _plainly(input, key) if _plain_parts(key, input._data.ndim) else _sliced(input, _parts(key))
    if indices:
        return index(viewed, tuple(indices))
    return TABLE["_alias"].public(input) if viewed is input else viewed


Tensor.__getitem__ = getitem  # type: ignore[misc]


def _parts(key: Any) -> tuple[Any, ...]:
    """The key as a tuple. A list that holds lists, slices or tensors counts as one, as in torch (and in old numpy)."""
    if isinstance(key, tuple):
        return key
    if (
        isinstance(key, (list, range))
        and len(key) < 32
        and any(part is None or part is ... or isinstance(part, (Tensor, list, tuple, slice)) for part in key)
    ):
        warnings.warn(
            "Using a non-tuple sequence for multidimensional indexing is deprecated and will be changed in pytorch 2.9; use "
            "x[tuple(seq)] instead of x[seq]. In pytorch 2.9 this will be interpreted as tensor index, x[torch.tensor(seq)], which "
            "will result either in an error or a different result",
            stacklevel=3,
        )
        return tuple(key)
    return (key,)


def _is_mask(part: Tensor) -> bool:
    return part._data.dtype in (np.bool_, np.uint8)


def _as_index(part: Any) -> Any:
    """One part of a key as an int, a slice, None, the ellipsis, a bool or a tensor."""
    if part is None or part is ... or isinstance(part, (bool, int, slice, Tensor)):
        return part
    if isinstance(part, np.ndarray):
        return TABLE["from_numpy"].public(part)
    if isinstance(part, str):
        raise error("index_text")
    if isinstance(part, (list, tuple, range)):
        made = TABLE["tensor"].public(list(part))
        return made if _is_mask(made) else TABLE["to"].public(made, _dtypes.int64)
    try:
        return operator.index(part)
    except TypeError:
        raise error("index_kind", kind=type(part).__name__) from None


def _consumed(part: Any) -> int:
    """How many dims of the indexed tensor a part of the key stands for."""
    if part is None or part is ... or isinstance(part, bool):
        return 0
    return part._data.ndim if isinstance(part, Tensor) and _is_mask(part) else 1


def _plainly(input: Tensor, parts: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """As ``_sliced`` for ints and slices alone."""
    viewed, dim = input, 0
    for place, part in enumerate(parts):
        if part.__class__ is int:
            viewed = _select_item(viewed, dim, part, place)
        else:
            viewed = _slice_item(viewed, dim, part)
            dim += 1
    return viewed, ()


def _sliced(input: Tensor, parts: tuple[Any, ...]) -> tuple[Tensor, list[Any]]:
    """What the views in the key make of the input, and the index tensors that are left (None for a dim that none stands at)."""
    parts = tuple([_as_index(p) for p in parts])
    specified, ndim = sum(map(_consumed, parts)), input._data.ndim
    if specified > ndim:
        raise error("index_too_many", ndim=ndim)
    viewed, dim = input, 0
    indices: list[Any] = []
    covered = 0
    for place, part in enumerate(parts):
        if part is ...:
            dim += ndim - specified
        elif isinstance(part, slice):
            viewed = _slice_item(viewed, dim, part)
            dim += 1
        elif part is None:
            viewed = unsqueeze(viewed, dim)
            dim += 1
        elif isinstance(part, int) and not isinstance(part, bool):
            viewed = _select_item(viewed, dim, part, place)
        elif isinstance(part, Tensor) and not part._data.ndim and not _is_mask(part) and _is_whole(part):
            viewed = _select_item(viewed, dim, int(part._data), place)
        else:
            if isinstance(part, bool) or not part._data.ndim:
                viewed = unsqueeze(viewed, dim)
                part = make(np.zeros(1 if part else 0, np.int64))
            indices += [*[None] * (dim - covered), part]
            covered = dim = dim + max(_consumed(part), 1)
    return viewed, indices


def _is_whole(part: Tensor) -> bool:
    if part.dtype.category == FLOAT:
        raise error("index_dtype")
    return True


def _slice_item(input: Tensor, dim: int, part: slice) -> Tensor:
    start, stop, step = _bounds(part)
    if step == 1 and start in (None, 0) and (stop is None or stop >= input._data.shape[dim]):
        return input
    return _slice(input, dim, start, stop, step)


# --- Tensor.__setitem__ -----------------------------------------------------------------------------------------------


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """``input[key] = value``: a copy into the view that the key names, or ``index_put_`` where a tensor, a list or a mask takes part."""
    value = _as_value(input, value)
    if key is False:
        return
    if key is None or key is True:
        return _copy_to(unsqueeze(input, 0), value)
    viewed, indices = _sliced(input, _parts(key))
    if not indices:
        return _copy_to(viewed, value)
    ones = _leading_ones(value)
    TABLE["index_put"].inplace_public(viewed, tuple(indices), view(value, value._data.shape[ones:]) if ones else value, False)


Tensor.__setitem__ = setitem  # type: ignore[index]


def _as_value(input: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, complex):
        raise error("value_overflow", kind=ELEMENT_NAMES[input.dtype.name])
    if not isinstance(value, (bool, int, float)):
        raise error("setitem_kind", kind=type(value).__name__, tensor=input.dtype.tensor_type)
    return make(scalar_for(input._data, value))


def _leading_ones(value: Tensor) -> int:
    shape = value._data.shape
    return next((i for i, n in enumerate(shape) if n != 1), len(shape))


def _copy_to(target: Tensor, value: Tensor) -> None:
    if value._data.shape != target._data.shape:
        if not value._data.ndim:
            TABLE["fill"].inplace_public(target, value)
            return
        value = expand(view(value, value._data.shape[_leading_ones(value) :]), target._data.shape)
    TABLE["copy"].inplace_public(target, value)


# --- gather, scatter: an index for every element, along one dim -------------------------------------------------------


def _grid(index: np.ndarray, dim: int) -> tuple[np.ndarray, ...]:
    """numpy's key for the elements that ``index`` names along ``dim``."""
    grid: list[Any] = list(np.ogrid[tuple([slice(n) for n in index.shape])])
    grid[dim] = index
    return tuple(grid)


def _lines(*arrays: np.ndarray) -> list[np.ndarray]:
    """0-d arrays as 1-d ones."""
    return [a.reshape(1) if a.ndim == 0 else a for a in arrays]


def _check_along(name: str, input: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray | None) -> int:
    """The dim from the front. Raises torch's errors for an index that does not fit."""
    shapes = [list(a.shape) for a in (input, index)]
    dim = wrap_dim(dim, input.ndim)
    if not index.size:
        return dim
    if not _is_index(index):
        raise error("along_dtype", name=name)
    for other, array in (("input" if name == "gather" else "self", input), ("src", src)):
        if array is not None and max(array.ndim, 1) != max(index.ndim, 1):
            raise error("along_ndim", other=other)
    whole, places = _lines(input, index)
    for d in range(whole.ndim):
        wide = d != dim and places.shape[d] > whole.shape[d]
        if name == "gather" and wide:
            raise error("gather_size", place=d, index=shapes[1], shape=shapes[0], dim=dim)
        if src is None and wide:
            raise error("scatter_size", index=shapes[1], shape=shapes[0], dim=dim)
        if src is not None and (wide or places.shape[d] > _lines(src)[0].shape[d]):
            raise error("scatter_src_size", index=shapes[1], shape=shapes[0], dim=dim, src=list(src.shape))
    _check_bounds(index, whole.shape[dim], _bounds_error("index_bounds_runtime", dim, whole.shape[dim]))
    return dim


def _gather_vjp(grad: Tensor, input: Tensor, dim: int, index: Tensor) -> Tensor:
    return write_into(_new_zeros(grad, input._data.shape), "scatter_add", dim, index, grad)


@op(promote="none", error="exact", tensor_only=("index",), vjp=dict(input=_gather_vjp))
def gather(input, dim, index, *, sparse_grad=False):
    dim = _check_along("gather", input, dim, index, None)
    if not index.size:
        return np.empty(index.shape, input.dtype)
    whole, places = _lines(input, index)
    return np.ascontiguousarray(whole[_grid(places, dim)]).reshape(index.shape)


def _scattered(input: np.ndarray, dim: int, index: np.ndarray, src: Any, write: Any) -> np.ndarray:
    out = np.array(input, order="C")
    if index.size:
        whole, places = _lines(out, index)
        write(whole, _grid(places, dim), src if np.ndim(src) == 0 else src[tuple([slice(n) for n in places.shape])])
    return out


def _assign(whole: np.ndarray, key: Any, src: Any) -> None:
    whole[key] = src


def _check_scatter(name: str, input: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> int:
    dim = wrap_dim(dim, input.ndim)
    if index.size and not _is_index(index):
        raise error("along_dtype", name=name)
    if input.dtype != src.dtype:
        raise error("scatter_dtype")
    return _check_along(name, input, dim, index, src)


@op(
    name="scatter",
    promote="none",
    error="exact",
    inplace=True,
    apart=True,
    arguments_first=True,
    tensors=("input", "index", "src"),
    tensor_only=("index", "src"),
    vjp=dict(input=lambda grad, dim, index: scatter(grad, dim, index, 0), src=lambda grad, dim, index: gather(grad, dim, index)),
)
def _scatter_tensor(input, dim, index, src):
    return _scattered(input, _check_scatter("scatter", input, dim, index, src), index, _lines(src)[0], _assign)


def _scatter_places(values, shape):
    return _scattered(np.zeros(shape, bool), wrap_dim(values[1], len(shape)), values[2], True, _assign)


@op(
    name="scatter",
    node="1",
    promote="none",
    error="exact",
    inplace=True,
    apart=True,
    arguments_first=True,
    tensors=("input", "index"),
    tensor_only=("index",),
    types={"value": (int, float)},
    radius=_fill_radius(_scatter_places),
    vjp=dict(input=lambda grad, dim, index: scatter(grad, dim, index, 0)),
)
def _scatter_value(input, dim, index, value):
    return _scattered(input, _check_along("scatter", input, dim, index, None), index, scalar_for(input, value), _assign)


scatter: Any = TABLE["scatter"].public


def _scatter_add_ulps(input, dim, index, src):
    return _scattered(np.zeros(input.shape), wrap_dim(dim, input.ndim), index, 1.0, np.add.at)


def _scatter_add_scale(input, dim, index, src):
    return _scattered(np.abs(input), wrap_dim(dim, input.ndim), index, _lines(np.abs(src))[0], np.add.at)


@op(
    promote="none",
    error="linear",
    inplace=True,
    apart=True,
    arguments_first=True,
    tensors=("input", "index", "src"),
    tensor_only=("index", "src"),
    reason=_ADDED,
    ulps=_scatter_add_ulps,
    scale=_scatter_add_scale,
    vjp=dict(input=lambda grad: grad, src=lambda grad, dim, index: gather(grad, dim, index)),
)
def scatter_add(input, dim, index, src):
    return _scattered(input, _check_scatter("scatter", input, dim, index, src), index, _lines(src)[0], np.add.at)


@op(composite=True, tensors=("input", "indices"))
def take_along_dim(input, indices, dim=None):
    """``gather`` after the two are broadcast against each other in every dim but ``dim``; of the flat tensors where no dim is given."""
    if dim is None:
        return gather(view(input, (-1,)), 0, view(indices, (-1,)))
    shape, places = input._data.shape, indices._data.shape
    if len(shape) != len(places):
        raise error("take_along_ndim", input=len(shape), indices=len(places))
    if indices.dtype is not _dtypes.int64:
        raise error("take_along_dtype", kind=_kind(indices._data))
    dim = wrap_dim(dim, len(shape))
    wide = list(np.broadcast_shapes((*shape[:dim], 1, *shape[dim + 1 :]), (*places[:dim], 1, *places[dim + 1 :])))
    wide[dim] = shape[dim]
    spread = (*wide[:dim], places[dim], *wide[dim + 1 :])
    return gather(expand(input, tuple(wide)), dim, expand(indices, spread).clone())  # torch gathers through a copy of the indices


# --- one index for a whole slice --------------------------------------------------------------------------------------


def _index_select_vjp(grad: Tensor, dim: int, index: Tensor, input_shape: tuple[int, ...]) -> Tensor:
    return write_into(_new_zeros(grad, input_shape), "index_add", dim, index, grad)


@op(promote="none", error="exact", tensor_only=("index",), vjp=dict(input=_index_select_vjp))
def index_select(input, dim, index):
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise error("select_vector")
    if not _is_index(index):
        raise error("select_dtype")
    if not input.ndim and index.size != 1:
        raise error("select_scalar", count=index.size)
    (whole,) = _lines(input)
    _check_bounds(index, whole.shape[dim], lambda i: error("select_bounds"))
    out = np.ascontiguousarray(np.take(whole, index.reshape(-1), axis=dim))
    return out if input.ndim else out.reshape(())


def _slices(dim: int, index: np.ndarray) -> tuple[Any, ...]:
    """numpy's key for the slices along ``dim`` that the index names."""
    return (*[slice(None)] * dim, index.reshape(-1))


def _sources(grad: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """The gradient of what was written slice by slice."""
    if not source._data.ndim:
        return index_select(grad, dim, squeeze(index, 0))
    return expand(index_select(grad, dim, index), source._data.shape)


def _check_index_add(input: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray) -> int:
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise error("add_vector", ndim=index.ndim, kind=_kind(index), size=list(index.shape))
    if not _is_index(index):
        raise error("add_index_dtype", kind=_kind(index))
    if input.dtype != source.dtype:
        raise error("add_dtype", input=_kind(input), source=_kind(source))
    if not source.ndim and index.size != 1 and input.ndim:
        raise error("no_dims", dim=dim)
    if source.ndim and index.size != source.shape[min(dim, source.ndim - 1)]:
        raise error("add_count", count=index.size, size=source.shape[min(dim, source.ndim - 1)], dim=dim)
    apart = [list(a.shape[:dim]) + list(a.shape[dim + 1 :]) for a in (input, source)]
    if apart[0] != apart[1] or (input.ndim and not source.ndim):
        raise error("add_shape", input=list(input.shape), source=list(source.shape))
    return dim


def _index_added(input: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray) -> np.ndarray:
    out = np.array(input, order="C")
    (whole,) = _lines(out)
    shape = (*whole.shape[:dim], index.size, *whole.shape[dim + 1 :])
    np.add.at(whole, _slices(dim, index), source.reshape(shape))
    return out


def _index_add_ulps(input, dim, index, source, *, alpha):
    per_value = np.full(source.shape, 1.0 if alpha == 1 else 2.0)
    return _index_added(np.zeros(input.shape), wrap_dim(dim, input.ndim), index, per_value)


def _index_add_scale(input, dim, index, source, *, alpha):
    return _index_added(np.abs(input), wrap_dim(dim, input.ndim), index, np.abs(source * np.asarray(alpha, source.dtype)))


def _scaled(grad: Tensor, alpha: Any) -> Tensor:
    return grad if alpha == 1 else grad * alpha


@op(
    promote="none",
    error="linear",
    inplace=True,
    apart=True,
    arguments_first=True,
    tensors=("input", "index", "source"),
    tensor_only=("index", "source"),
    reason=_ADDED,
    ulps=lambda input, dim, index, source, alpha: _index_add_ulps(input, dim, index, source, alpha=alpha),
    scale=lambda input, dim, index, source, alpha: _index_add_scale(input, dim, index, source, alpha=alpha),
    vjp=dict(input=lambda grad: grad, source=lambda grad, dim, index, source, alpha: _scaled(_sources(grad, dim, index, source), alpha)),
)
def index_add(input, dim, index, source, *, alpha=1):
    dim = _check_index_add(input, dim, index, source)
    size = _lines(input)[0].shape[dim]
    _check_bounds(index, size, _bounds_error("index_bounds_runtime", dim, size))
    return _index_added(input, dim, index, source if alpha == 1 else source * np.asarray(alpha).astype(source.dtype))


def _check_index_copy(input: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray) -> int:
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise error("copy_vector", ndim=index.ndim)
    if not source.ndim and index.size != 1:
        raise error("copy_scalar", count=index.size)
    if source.ndim and input.ndim and source.ndim != input.ndim:
        raise error("copy_ndim", source=source.ndim, input=input.ndim)
    if index.dtype != np.int64:
        raise error("copy_index_dtype", kind=_kind(index))
    if input.dtype != source.dtype:
        raise error("copy_dtype", input=_kind(input), source=_kind(source))
    slices = [[n for d, n in enumerate(a.shape) if d != dim] for a in (input, source)]
    if slices[0] != slices[1]:
        raise error("copy_shape", input=" ".join(map(str, slices[0])), source=" ".join(map(str, slices[1])), dim=dim)
    if source.ndim and index.size != source.shape[dim]:
        raise error("copy_count", count=index.size, size=source.shape[dim])
    return dim


@op(
    promote="none",
    error="exact",
    inplace=True,
    apart=True,
    arguments_first=True,
    tensors=("input", "index", "source"),
    tensor_only=("index", "source"),
    vjp=dict(input=lambda grad, dim, index: index_fill(grad, dim, index, 0), source=_sources),
)
def index_copy(input, dim, index, source):
    dim = _check_index_copy(input, dim, index, source)
    out = np.array(input, order="C")
    (whole,) = _lines(out)
    size = whole.shape[dim]
    _check_bounds(index, size, lambda i: error("copy_bounds", index=i, dim=dim, size=size))
    whole[_slices(dim, index)] = source.reshape((*whole.shape[:dim], index.size, *whole.shape[dim + 1 :]))
    return out


def _filled(input: np.ndarray, dim: int, index: np.ndarray, value: Any) -> np.ndarray:
    if index.dtype != np.int64:
        raise error("fill_dtype")
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise error("fill_vector")
    out = _clone(input)
    (whole,) = _lines(out)
    size = whole.shape[dim]
    _check_bounds(index, size, _bounds_error("index_bounds", dim, size), lowest=-size)
    whole[_slices(dim, index)] = value
    return out


def _fill_places(values, shape):
    return _filled(np.zeros(shape, bool), values[1], values[2], True)


@op(
    name="index_fill",
    promote="none",
    error="exact",
    inplace=True,
    checks_overlap=False,
    types={"value": (int, float)},
    tensor_only=("index",),
    radius=_fill_radius(_fill_places),
    vjp=dict(input=lambda grad, dim, index: index_fill(grad, dim, index, 0)),
)
def _index_fill_number(input, dim, index, value):
    return _filled(input, dim, index, scalar_for(input, value))


def _zero_d(name: str, value: np.ndarray, dtype: Any) -> np.ndarray:
    if value.ndim:
        raise error("value_0d", name=name, ndim=value.ndim)
    return narrow(value, dtype)


def _index_fill_value_vjp(grad: Tensor, dim: int, index: Tensor) -> Tensor:
    return index_select(grad, dim, make(np.unique(index._data))).sum()


@op(
    name="index_fill",
    node="1",
    promote="none",
    error="exact",
    inplace=True,
    checks_overlap=False,
    tensors=("input", "index", "value"),
    radius=_fill_radius(_fill_places),
    vjp=dict(input=lambda grad, dim, index: index_fill(grad, dim, index, 0), value=_index_fill_value_vjp),
)
def _index_fill_tensor(input, dim, index, value):
    return _filled(input, dim, index, _zero_d("index_fill", value, input.dtype))


index_fill: Any = TABLE["index_fill"].public

# --- masks ------------------------------------------------------------------------------------------------------------


def _mask_filled(input: np.ndarray, mask: np.ndarray, value: Any) -> np.ndarray:
    if mask.dtype != np.bool_:
        raise error("masked_fill_mask", dtype=CPP_NAMES[OF[mask.dtype].name])
    broadcast_shapes(mask.shape, input.shape)
    return np.asarray(np.where(mask, value, input), order="C")


def _mask_places(values, shape):
    return np.broadcast_to(values[1], shape)


@op(
    name="masked_fill",
    promote="none",
    error="exact",
    inplace=True,
    checks_overlap=False,
    types={"value": (int, float)},
    tensor_only=("mask",),
    radius=_fill_radius(_mask_places),
    vjp=dict(input=lambda grad, mask: masked_fill(grad, mask, 0)),
)
def _masked_fill_number(input, mask, value):
    return _mask_filled(input, mask, scalar_for(input, value))


@op(
    name="masked_fill",
    node="1",
    promote="none",
    error="exact",
    inplace=True,
    checks_overlap=False,
    tensors=("input", "mask", "value"),
    radius=_fill_radius(_mask_places),
    vjp=dict(input=lambda grad, mask: masked_fill(grad, mask, 0), value=lambda grad, mask: masked_select(grad, mask).sum()),
)
def _masked_fill_tensor(input, mask, value):
    return _mask_filled(input, mask, _zero_d("masked_fill", value, input.dtype))


masked_fill: Any = TABLE["masked_fill"].public


def _masked_select_vjp(grad: Tensor, input: Tensor, mask: Tensor) -> Tensor:
    shape = np.broadcast_shapes(input._data.shape, mask._data.shape)
    return write_into(
        TABLE["zeros_like"].public(input if input._data.shape == shape else expand(input, shape)), "masked_scatter", mask, grad
    )


@op(promote="none", error="exact", tensor_only=("mask",), vjp=dict(input=_masked_select_vjp))
def masked_select(input, mask):
    if mask.dtype != np.bool_:
        raise error("masked_select_mask")
    shape = broadcast_shapes(mask.shape, input.shape)
    return np.broadcast_to(input, shape)[np.broadcast_to(mask, shape)]


@op(
    name="_masked_scatter_backward",
    promote="none",
    error="exact",
    method=False,
    function=False,
    vjp=dict(input=lambda grad, input_shape, mask: masked_scatter(_new_zeros(grad, input_shape), mask, grad)),
)
def _masked_scatter_backward(input, mask, size):
    picked = input[np.broadcast_to(mask, input.shape)]
    source = np.zeros(math.prod(size), input.dtype)
    source[: picked.size] = picked
    return source.reshape(size)


@op(
    promote="none",
    error="exact",
    inplace=True,
    tensors=("input", "mask", "source"),
    tensor_only=("mask", "source"),
    vjp=dict(
        input=lambda grad, mask: masked_fill(grad, mask, 0),
        source=lambda grad, mask, source_shape: _masked_scatter_backward(grad, mask, source_shape),
    ),
)
def masked_scatter(input, mask, source):
    shape = broadcast_shapes(mask.shape, input.shape)
    if input.dtype != source.dtype:
        raise error("masked_scatter_dtype", input=_kind(input), source=_kind(source))
    if mask.dtype != np.bool_:
        raise error("masked_scatter_mask", dtype=_kind(mask))
    out = np.array(np.broadcast_to(input, shape), order="C")
    wide = np.broadcast_to(mask, shape)
    count = int(np.count_nonzero(wide))
    if source.size < count:
        raise error("masked_scatter_count")
    out[wide] = source.reshape(-1)[:count]
    return out


# --- the flat tensor --------------------------------------------------------------------------------------------------


def _check_flat(name: str, input: np.ndarray, index: np.ndarray) -> None:
    if index.dtype != np.int64:
        raise error("long_index", name=name, kind=_kind(index))
    _check_bounds(index, input.size, lambda i: error("take_bounds", index=i, numel=input.size), lowest=-input.size)


def _take_vjp(grad: Tensor, input: Tensor, index: Tensor) -> Tensor:
    return write_into(TABLE["zeros_like"].public(input), "put", index, grad, True)


@op(promote="none", error="exact", tensor_only=("index",), vjp=dict(input=_take_vjp))
def take(input, index):
    _check_flat("take", input, index)
    return input.reshape(-1)[index.reshape(-1)].reshape(index.shape)


def _put_flat(input, index, source, accumulate):
    out = _clone(input)
    flat = np.ascontiguousarray(out).reshape(-1)
    if accumulate:
        np.add.at(flat, index.reshape(-1), source.reshape(-1))
    else:
        flat[index.reshape(-1)] = source.reshape(-1)
    out[...] = flat.reshape(out.shape)
    return out


def _put_flat_ulps(input, index, source, accumulate):
    counts = np.zeros(input.shape)
    return _put_flat(counts, index, np.ones(source.shape), True) if accumulate else counts


@op(
    promote="none",
    error="linear",
    inplace=True,
    apart=True,
    arguments_first=True,
    tensors=("input", "index", "source"),
    tensor_only=("index", "source"),
    reason=_ADDED,
    ulps=_put_flat_ulps,
    scale=lambda input, index, source, accumulate: _put_flat(np.abs(input), index, np.abs(source), accumulate),
    vjp=dict(
        input=lambda grad, index, source_shape, accumulate: grad if accumulate else put(grad, index, _new_zeros(grad, source_shape), False),
        source=lambda grad, index, source: reshape(take(grad, index), source._data.shape),
    ),
)
def put(input, index, source, accumulate=False):
    if index.dtype != np.int64:
        raise error("long_index", name="put_", kind=_kind(index))
    if input.dtype != source.dtype:
        raise error("put_dtype", input=_kind(input), source=_kind(source))
    if index.size != source.size:
        raise error("put_count", source=source.size, index=index.size)
    _check_flat("put_", input, index)
    return _put_flat(input, index, source, accumulate)


# --- where something stands -------------------------------------------------------------------------------------------


@op(composite=True)
def nonzero(input, *, as_tuple=False):
    """The indices of what is not zero: one row each, or (``as_tuple``) one tensor per dim."""
    array = input._data
    if as_tuple:
        return nonzero(input if array.ndim else unsqueeze(input, 0)).unbind(1)
    if not array.ndim:
        return make(np.empty((int(bool(array)), 0), np.int64))
    return make(np.array(np.nonzero(array), np.int64, order="C").T)


@op(composite=True)
def argwhere(input):
    return nonzero(input)


# --- order ------------------------------------------------------------------------------------------------------------


def _value_selecting_vjp(grad_values: Any, dim: int, indices: Tensor, input_shape: tuple[int, ...]) -> Any:
    """The gradient at the places that were selected, zero elsewhere."""
    if grad_values is None:
        return None
    return write_into(written_zeros(grad_values, input_shape), "scatter", dim, indices, grad_values)


def _order(input: np.ndarray, dim: int, descending: bool) -> np.ndarray:
    """The indices that sort stably; NaN counts as the largest."""
    keys = input.astype(np.float32) if input.dtype == _dtypes.BF16 else input
    if not descending:
        return np.argsort(keys, axis=dim, kind="stable")
    return keys.shape[dim] - 1 - np.flip(np.argsort(np.flip(keys, dim), axis=dim, kind="stable"), dim)


def _sorted(input: np.ndarray, dim: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    dim = wrap_dim(dim, input.ndim)
    (whole,) = _lines(input)
    order = _order(whole, dim, descending)
    values, indices = empty_as(input, input.dtype), empty_as(input, np.dtype(np.int64))
    values[...] = np.take_along_axis(whole, order, dim).reshape(input.shape)
    indices[...] = order.reshape(input.shape)
    return values, indices


_SELECTING = dict(promote="none", error="exact", outputs=("values", "indices"), nondifferentiable=("indices",))


@op(name="sort", **_SELECTING, types={"dim": DIM}, vjp=dict(input=_value_selecting_vjp))
def _sort(input, dim=-1, descending=False):
    return _sorted(input, dim, descending)


@op(name="sort", node="1", **_SELECTING, vjp=dict(input=_value_selecting_vjp))
def _sort_stable(input, *, stable, dim=-1, descending=False):
    return _sorted(input, dim, descending)


sort: Any = TABLE["sort"].public


@op(composite=True)
def argsort(input, dim=-1, descending=False, *, stable=False):
    return make(_sorted(input._data, dim, descending)[1])


@op(composite=True)
def msort(input):
    return sort(input, 0)[0]


@op(**_SELECTING, vjp=dict(input=_value_selecting_vjp))
def topk(input, k, dim=-1, largest=True, sorted=True):
    dim = wrap_dim(dim, input.ndim)
    if not 0 <= k <= (input.shape[dim] if input.ndim else 1):
        raise error("topk_range")
    if input.dtype == np.bool_:
        raise error("topk_bool")
    values, indices = _sorted(input, dim, largest)
    if not input.ndim:
        return values, indices
    first = _along(dim, slice(k))
    return values[first].copy(), indices[first].copy()  # also of no element, whose memory would be all that was sorted
