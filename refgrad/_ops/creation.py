"""Tensors from nothing: from Python data and numpy arrays, filled, counted, drawn at random.

None of these has a gradient of its own except the writes at the end; each makes a leaf. ``empty`` and its like hold zeros here: torch
leaves them arbitrary, and a reference must give the same answer twice.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from refgrad import _dtypes, _exact, _tensor
from refgrad._dtypes import BOOL, ELEMENT_NAMES, FLOAT, INT, OF, narrow, promote_types, scalar_dtype
from refgrad._errors import declare, error
from refgrad._storage import overlaps_itself
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor, make

declare("creation_requires_grad", RuntimeError, "Only Tensors of floating point and complex dtype can require gradients")
declare("negative_size", RuntimeError, "Trying to create tensor with negative dimension {dim}: [{size}]")
declare("zeros_negative_size", RuntimeError, "zeros: Dimension size must be non-negative.")
declare("value_overflow", RuntimeError, "value cannot be converted to type {kind} without overflow")
declare("ragged", ValueError, "expected sequence of length {expected} at dim {dim} (got {found})")
declare("not_a_sequence", TypeError, "not a sequence")
declare("size_type", TypeError, "{name}(): argument 'size' (position 1) must be tuple of ints, not {kind}")
declare("dtype_type", TypeError, "{name}(): argument 'dtype' must be torch.dtype, not {kind}")
declare("arange_sign", RuntimeError, "upper bound and lower bound inconsistent with step sign")
declare("arange_step", RuntimeError, "step must be nonzero")
declare("arange_range", RuntimeError, "unsupported range: {start} -> {end}")
declare("linspace_steps", RuntimeError, "number of steps must be non-negative")
declare("eye_size", RuntimeError, "{which} must be greater or equal to 0, got {size}")
declare("not_implemented_dtype", NotImplementedError, "\"{kernel}\" not implemented for '{dtype}'")

#: names of the functions here that draw random numbers
RANDOM: Final[set[str]] = set()
_MISSING: Final[Any] = object()


def creation(random: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares a function that makes a tensor: an op of no gradient, whose decorated function is the public one."""

    def declare_creation(function: Callable[..., Any]) -> Callable[..., Any]:
        if random:
            RANDOM.add(function.__name__)
        options.setdefault("method", False)
        return op(composite=True, promote="none", **options)(function)

    return declare_creation


# --- what all of them share ----------------------------------------------------------------------------------------------------


def leaf(array: np.ndarray, requires_grad: bool = False, like: Any = None) -> Tensor:
    """A leaf around ``array``; a ball where ``like`` is one and the dtype is a float. Raises where an integer tensor would require grad."""
    nominal = OF[array.dtype]
    if requires_grad and nominal.category != FLOAT:
        raise error("creation_requires_grad")
    made = _exact.ball(array, nominal) if like.__class__ is _exact.ExactTensor and nominal.category == FLOAT else make(array)
    made._rg = bool(requires_grad)
    return made


def _size(name: str, size: Any, more: tuple[Any, ...] = ()) -> tuple[int, ...]:
    """``f(2, 3)``, ``f((2, 3))`` and ``f(size=(2, 3))`` as a tuple. Raises torch's errors for what is no size."""
    if size is _MISSING:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    if isinstance(size, (tuple, list)):
        if more:
            raise TypeError(f"{name}() takes 1 positional argument but {1 + len(more)} were given")
        dims = size
    else:
        dims = (size, *more)
    return _checked(name, tuple([_dim(name, d, i, dims is size) for i, d in enumerate(dims)]))


def _dim(name: str, value: Any, place: int, inside: bool) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        if inside:
            raise TypeError(
                f"{name}(): argument 'size' failed to unpack the object at pos {place + 1} with error "
                f'"type must be tuple of ints,but got {type(value).__name__}"'
            ) from None
        raise error("size_type", name=name, kind=type(value).__name__) from None


def _checked(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if min(shape, default=0) < 0:
        raise error("zeros_negative_size") if name == "zeros" else error("negative_size", dim=min(shape), size=", ".join(map(str, shape)))
    return shape


def _dtype(name: str, dtype: Any, otherwise: _dtypes.dtype | None = None) -> _dtypes.dtype:
    try:
        return _dtypes.as_dtype(dtype) or otherwise or _dtypes.get_default_dtype()
    except TypeError:
        raise error("dtype_type", name=name, kind=type(dtype).__name__) from None


def _tensor_only(name: str, input: Any) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return input


def _on_cpu(device: Any) -> None:
    if device is not None:
        _tensor.device(device)


def empty_as(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """An array in the layout that torch's ``preserve_format`` gives: the same strides where they are dense, their order where not."""
    if array.flags.c_contiguous:
        return np.empty(array.shape, dtype)
    if array.size and not overlaps_itself(array):
        return np.empty_like(array, dtype, order="K")
    order = _stride_order(array.shape, array.strides)
    made = np.empty([array.shape[d] for d in order], dtype)
    return made.transpose(np.argsort(order))


def _stride_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Dims from the outermost in memory; strides of 0 keep their place (an insertion sort, since that order is not transitive)."""
    order = list(range(len(shape)))
    for end in range(len(order) - 2, -1, -1):
        here = end
        for other in range(end + 1, len(order)):
            outer, inner = order[here], order[other]
            swap = _inner_goes_out(shape, strides, outer, inner)
            if swap > 0:
                order[here], order[other] = inner, outer
                here = other
            elif swap < 0:
                break
    return order


def _inner_goes_out(shape: tuple[int, ...], strides: tuple[int, ...], outer: int, inner: int) -> int:
    if strides[outer] == 0 or strides[inner] == 0:
        return 0
    if strides[outer] != strides[inner]:
        return 1 if strides[inner] > strides[outer] else -1
    return 1 if shape[inner] > shape[outer] else 0


# --- from data -------------------------------------------------------------------------------------------------------------------


@creation()
def tensor(data, *, dtype=None, device=None, requires_grad=False):
    """A new leaf from numbers, nested sequences, a numpy array or a tensor, always a copy.

    The dtype is that of the elements: bool, int64, the default float, or what arrays, numpy scalars and tensors among them say. Raises
    ValueError for sequences of unequal length, TypeError for what is no number, RuntimeError for an integer that does not fit.
    """
    _on_cpu(device)
    return leaf(_copied(data, _dtypes.as_dtype(dtype)), requires_grad, like=data)


def _copied(data: Any, dtype: _dtypes.dtype | None) -> np.ndarray:
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
            UserWarning,
            stacklevel=3,
        )
        data = data._data
    if isinstance(data, np.ndarray):
        return np.array(_converted(_native(data), dtype), order="K")
    return _from_sequence(data, dtype)


def _native(array: np.ndarray) -> np.ndarray:
    """The array with refgrad's own dtype object. Raises torch's error for a dtype it has no tensor for."""
    if array.dtype not in OF:
        raise TypeError(
            f"can't convert np.ndarray of type {array.dtype.type.__module__}.{array.dtype.type.__name__}. The only supported types are: "
            "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
        )
    own = OF[array.dtype].np
    return array if array.dtype is own else array.view(own)


def _converted(array: np.ndarray, dtype: _dtypes.dtype | None) -> np.ndarray:
    return (
        array
        if dtype is None or array.dtype is dtype.np
        else narrow(array, dtype.np)
        if dtype.category == FLOAT
        else array.astype(dtype.np)
    )


def _from_sequence(data: Any, dtype: _dtypes.dtype | None) -> np.ndarray:
    if isinstance(data, str):
        raise TypeError("new(): invalid data type 'str'")
    shape = _shape_of(data)
    if dtype is None:
        dtype = _common(_leaf_dtypes(data)) or _dtypes.get_default_dtype()
    flat: list[Any] = []
    if 0 not in shape:
        _flatten(data, shape, 0, flat)
    return _stored(flat, dtype).reshape(shape)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _shape_of(data: Any) -> tuple[int, ...]:
    shape = []
    while _is_sequence(data):
        shape.append(len(data))
        if not len(data):
            break
        data = data[0]
    if isinstance(data, str):
        raise ValueError("too many dimensions 'str'")
    return tuple(shape)


def _leaf_dtypes(value: Any) -> Iterable[_dtypes.dtype]:
    if isinstance(value, (list, tuple, range)):
        if not len(value):
            yield _dtypes.get_default_dtype()
        for v in value:
            yield from _leaf_dtypes(v)
    elif isinstance(value, Tensor):
        yield value.dtype
    elif isinstance(value, (np.generic, np.ndarray)):
        yield OF[_native(np.asarray(value)).dtype]
    elif isinstance(value, (bool, int, float)):
        yield scalar_dtype(value)
    elif isinstance(value, complex):
        raise NotImplementedError("refgrad has no complex tensors")
    elif isinstance(value, str):
        raise TypeError("new(): invalid data type 'str'")
    else:
        raise RuntimeError(f"Could not infer dtype of {type(value).__name__}")


def _common(dtypes: Iterable[_dtypes.dtype]) -> _dtypes.dtype | None:
    common = None
    for d in dtypes:
        common = d if common is None else promote_types(common, d)
    return common


def _flatten(data: Any, shape: tuple[int, ...], dim: int, flat: list[Any]) -> None:
    if dim == len(shape):
        flat.append(data)
        return
    if not _is_sequence(data):
        raise error("not_a_sequence")
    if len(data) != shape[dim]:
        raise error("ragged", expected=shape[dim], dim=dim, found=len(data))
    for item in data:
        _flatten(item, shape, dim + 1, flat)


def _stored(flat: list[Any], dtype: _dtypes.dtype) -> np.ndarray:
    numbers = [_number(v, dtype) for v in flat]
    if dtype.category == FLOAT:
        return narrow(np.array(numbers, np.float64), dtype.np)
    return np.array([_fitted(n, dtype, dtype.name) for n in numbers], dtype.np)


def _number(value: Any, dtype: _dtypes.dtype) -> Any:
    """An element as a Python number of the dtype's category. Raises torch's errors for what is none."""
    if isinstance(value, Tensor):
        if value._data.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        if dtype.category == INT and value.dtype.category == FLOAT:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        value = value.item()
    elif isinstance(value, np.generic):
        value = float(value) if OF[value.dtype].category == FLOAT else value.item()
    if isinstance(value, (bool, int, float)):
        if isinstance(value, int) and not -(2**63) <= value < 2**63 and dtype is _dtypes.int64:
            raise ValueError("Overflow when unpacking long long")
        return bool(value) if dtype.category == BOOL else value
    kind = type(value).__name__
    raise TypeError(
        f"must be real number, not {kind}" if dtype.category == FLOAT else f"'{kind}' object cannot be interpreted as an integer"
    )


def fitted(value: Any, dtype: _dtypes.dtype) -> Any:
    """A Python number as a kernel's argument of an integer dtype. Raises torch's error for what does not fit."""
    return _fitted(value, dtype, ELEMENT_NAMES[dtype.name])


def scalar_for(array: np.ndarray, value: Any) -> np.ndarray:
    """A Python number as an element of the array's dtype. Raises torch's error for one that does not fit."""
    d = OF.get(array.dtype)
    if d is None or (d.category == FLOAT and not np.isfinite(value)):
        return np.asarray(value, array.dtype)
    if d.category != FLOAT:
        return np.asarray(fitted(value, d), array.dtype)
    if abs(value) > d.largest:
        raise error("value_overflow", kind=ELEMENT_NAMES[d.name])
    return narrow(np.asarray(value, np.float64), d.np)


def _fitted(value: Any, dtype: _dtypes.dtype, kind: str) -> Any:
    """A number as one of an integer dtype: floats truncate, negative ints wrap in uint8. Raises torch's error for what does not fit."""
    if dtype.category == BOOL:
        return bool(value)
    limits = np.iinfo(dtype.np)
    lowest = -255 if dtype is _dtypes.uint8 and isinstance(value, int) else int(limits.min)
    if not lowest <= value <= int(limits.max):  # nan fits nowhere
        raise error("value_overflow", kind=kind)
    return int(value) % 256 if dtype is _dtypes.uint8 else int(value)


@creation()
def as_tensor(data, dtype=None, device=None):
    """The data itself where it is a tensor of that dtype, a tensor sharing memory for a numpy array, and ``tensor(data)`` otherwise."""
    _on_cpu(device)
    d = _dtypes.as_dtype(dtype)
    if isinstance(data, Tensor):
        return data if d is None or d is data.dtype else TABLE["to"].public(data, d)
    if isinstance(data, np.ndarray) and (d is None or d.np == data.dtype):
        return from_numpy(data)
    return tensor(data, dtype=d)


@creation()
def from_numpy(ndarray):
    """A tensor that shares the array's memory; an array that cannot be written to is copied."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(
            f"expected np.ndarray (got {type(ndarray).__module__ + '.' if isinstance(ndarray, np.generic) else ''}{type(ndarray).__name__})"
        )
    if min(ndarray.strides, default=0) < 0:
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently supported. "
            "(You can probably work around this by making a copy of your array  with array.copy().) "
        )
    native = _native(ndarray)
    return make(native if native.flags.writeable else native.copy(order="K"))


@creation()
def scalar_tensor(s, *, dtype=None, device=None, requires_grad=False):
    """A 0-d tensor, of the default float dtype unless told otherwise."""
    return full((), s, dtype=_dtype("scalar_tensor", dtype), device=device, requires_grad=requires_grad)


# --- filled ------------------------------------------------------------------------------------------------------------------------


@creation()
def zeros(size=_MISSING, *more, dtype=None, device=None, requires_grad=False):
    _on_cpu(device)
    return leaf(np.zeros(_size("zeros", size, more), _dtype("zeros", dtype).np), requires_grad)


@creation()
def ones(size=_MISSING, *more, dtype=None, device=None, requires_grad=False):
    _on_cpu(device)
    return leaf(np.ones(_size("ones", size, more), _dtype("ones", dtype).np), requires_grad)


@creation()
def empty(size=_MISSING, *more, dtype=None, device=None, requires_grad=False):
    """Zeros: torch leaves the elements arbitrary."""
    _on_cpu(device)
    return leaf(np.zeros(_size("empty", size, more), _dtype("empty", dtype).np), requires_grad)


@creation()
def full(size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """``fill_value`` everywhere; its kind (bool, int, float) gives the dtype. Raises RuntimeError where it does not fit the dtype."""
    _on_cpu(device)
    value = _fill_value("full", fill_value)
    return leaf(_filled(np.empty(_sequence_size("full", size), _dtype("full", dtype, scalar_dtype(value)).np), value), requires_grad)


def _sequence_size(name: str, size: Any) -> tuple[int, ...]:
    if not isinstance(size, (tuple, list)):
        raise error("size_type", name=name, kind=type(size).__name__)
    return _size(name, size)


def _fill_value(name: str, value: Any) -> Any:
    if isinstance(value, Tensor) and value._data.ndim == 0 and not value._rg:
        return value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{name}(): argument 'fill_value' (position 2) must be Number, not {type(value).__name__}")


def _filled(array: np.ndarray, value: Any) -> np.ndarray:
    """``value`` in every element, rounded or truncated to the dtype; raises torch's error where it does not fit."""
    nominal = OF[array.dtype]
    if nominal.category != FLOAT:
        array[...] = fitted(value, nominal)
        return array
    if nominal.largest < abs(value) < math.inf and (nominal.itemsize > 2 or array.size != 1):  # torch fills one element without looking
        raise error("value_overflow", kind=ELEMENT_NAMES[nominal.name])
    array[...] = narrow(np.asarray(value, np.float64), nominal.np)
    return array


def _like(name: str, input: Any, dtype: Any, device: Any) -> np.ndarray:
    _on_cpu(device)
    return empty_as(_tensor_only(name, input)._data, _dtype(name, dtype, input.dtype).np)


@creation()
def zeros_like(input, *, dtype=None, device=None, requires_grad=False):
    return leaf(_filled(_like("zeros_like", input, dtype, device), 0), requires_grad, input)


@creation()
def ones_like(input, *, dtype=None, device=None, requires_grad=False):
    return leaf(_filled(_like("ones_like", input, dtype, device), 1), requires_grad, input)


@creation()
def empty_like(input, *, dtype=None, device=None, requires_grad=False):
    """Zeros: torch leaves the elements arbitrary."""
    return leaf(_filled(_like("empty_like", input, dtype, device), 0), requires_grad, input)


@creation()
def full_like(input, fill_value, *, dtype=None, device=None, requires_grad=False):
    return leaf(_filled(_like("full_like", input, dtype, device), _fill_value("full_like", fill_value)), requires_grad, input)


def _new(name: str, input: Tensor, size: tuple[int, ...], dtype: Any, device: Any) -> np.ndarray:
    _on_cpu(device)
    return np.empty(size, _dtype(name, dtype, input.dtype).np)


@creation(method=True, function=False)
def new_zeros(input, size=_MISSING, *more, dtype=None, device=None, requires_grad=False):
    return leaf(_filled(_new("new_zeros", input, _size("new_zeros", size, more), dtype, device), 0), requires_grad, input)


@creation(method=True, function=False)
def new_ones(input, size=_MISSING, *more, dtype=None, device=None, requires_grad=False):
    return leaf(_filled(_new("new_ones", input, _size("new_ones", size, more), dtype, device), 1), requires_grad, input)


@creation(method=True, function=False)
def new_empty(input, size=_MISSING, *more, dtype=None, device=None, requires_grad=False):
    """Zeros: torch leaves the elements arbitrary."""
    return leaf(_filled(_new("new_empty", input, _size("new_empty", size, more), dtype, device), 0), requires_grad, input)


@creation(method=True, function=False)
def new_full(input, size, fill_value, *, dtype=None, device=None, requires_grad=False):
    value = _fill_value("new_full", fill_value)
    return leaf(_filled(_new("new_full", input, _sequence_size("new_full", size), dtype, device), value), requires_grad, input)


@creation(method=True, function=False)
def new_tensor(input, data, *, dtype=None, device=None, requires_grad=False):
    return tensor(data, dtype=_dtype("new_tensor", dtype, input.dtype), device=device, requires_grad=requires_grad)


# --- counted -----------------------------------------------------------------------------------------------------------------------


@creation()
def arange(start=_MISSING, end=None, step=1, *, dtype=None, device=None, requires_grad=False):
    """start, start + step, … below ``end``; int64 where all three are integers."""
    _on_cpu(device)
    if start is _MISSING or end is None:
        start, end = 0, (end if start is _MISSING else start)
    whole = all(isinstance(v, int) for v in (start, end, step))
    d = _dtype("arange", dtype, _dtypes.int64 if whole else None)
    if d.category == BOOL:
        raise error("not_implemented_dtype", kernel="arange_cpu", dtype="Bool")
    count = _arange_count(start, end, step, d)
    if d.category == INT:
        first, by = int(start), int(step)
        return leaf((first + by * np.arange(count, dtype=np.int64)).astype(d.np), requires_grad)
    wide = np.longdouble(start) + np.longdouble(step) * np.arange(count, dtype=np.longdouble)
    return leaf(narrow(wide if d is _dtypes.float64 else wide.astype(np.float64), d.np), requires_grad)


def _arange_count(start: Any, end: Any, step: Any, d: _dtypes.dtype) -> int:
    if step == 0:
        raise error("arange_step")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise error("arange_range", start=f"{start:g}", end=f"{end:g}")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise error("arange_sign")
    if d is _dtypes.int64:
        return -((int(start) - int(end)) // int(step))
    return math.ceil((float(end) - float(start)) / float(step))


@creation()
def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False):
    """``steps`` values from ``start`` to ``end``, both included; each half is counted from its own end."""
    _on_cpu(device)
    start, end = _linspace_ends(start, end)
    if steps < 0:
        raise error("linspace_steps")
    d = _dtype("linspace", dtype)
    if d.category == BOOL:
        raise error("not_implemented_dtype", kernel="linspace_cpu", dtype="Bool")
    if d.category == INT:
        for v in (start, end):
            fitted(v, d)
    compute: Any = np.float32 if d.category == INT else d.wide.type
    by = (compute(end) - compute(start)) / compute(max(steps - 1, 1))
    place = np.arange(steps)
    values = np.where(
        place < (steps + 1) // 2, compute(start) + by * place.astype(compute), compute(end) - by * (steps - 1 - place).astype(compute)
    )
    return leaf(values.astype(d.np) if d.category == INT else narrow(values, d.np), requires_grad)


def _linspace_ends(start: Any, end: Any) -> tuple[Any, Any]:
    dims = [v._data.ndim if isinstance(v, Tensor) else 0 for v in (start, end)]
    if any(dims):
        raise RuntimeError(
            f"linspace only supports 0-dimensional start and end tensors, but got start with {dims[0]} dimension(s) "
            f"and end with {dims[1]} dimension(s)."
        )
    first, last = (v.item() if isinstance(v, Tensor) else v for v in (start, end))
    return first, last


@creation()
def eye(n, m=None, *, dtype=None, device=None, requires_grad=False):
    _on_cpu(device)
    for name, value in (("n", n), ("m", m)):
        if isinstance(value, float):
            raise TypeError(f"eye(): argument '{name}' (position {1 if name == 'n' else 2}) must be int, not float")
        if value is not None and value < 0:
            raise error("eye_size", which=name, size=value)
    return leaf(np.eye(n, m, dtype=_dtype("eye", dtype).np), requires_grad)


# --- drawn at random ---------------------------------------------------------------------------------------------------------------


def _source(generator: Any) -> Any:
    from refgrad import _random

    return _random, _random.default_generator if generator is None else generator


def _visited(array: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` into ``array``, in the order in which torch visits a strided tensor: that of memory."""
    order = _stride_order(array.shape, array.strides)
    array.transpose(order)[...] = values.reshape([array.shape[d] for d in order])
    return array


@creation(random=True)
def rand(size=_MISSING, *more, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform on [0, 1)."""
    _on_cpu(device)
    random, stream = _source(generator)
    return leaf(random.rand(stream, _size("rand", size, more), _dtype("rand", dtype).np), requires_grad)


@creation(random=True)
def randn(size=_MISSING, *more, generator=None, dtype=None, device=None, requires_grad=False):
    """Standard normal."""
    _on_cpu(device)
    random, stream = _source(generator)
    return leaf(random.randn(stream, _size("randn", size, more), _dtype("randn", dtype).np), requires_grad)


@creation(random=True)
def rand_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    random, stream = _source(generator)
    made = _like("rand_like", input, dtype, device)
    return leaf(_visited(made, random.rand(stream, made.shape, made.dtype)), requires_grad, input)


@creation(random=True)
def randn_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    random, stream = _source(generator)
    made = _like("randn_like", input, dtype, device)
    values = random.randn(stream, made.shape, made.dtype, contiguous=made.flags.c_contiguous)
    return leaf(_visited(made, values), requires_grad, input)


@creation(random=True)
def randint(low=_MISSING, high=_MISSING, size=_MISSING, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Integers on [low, high), int64 unless told otherwise; ``randint(high, size)`` starts at 0."""
    _on_cpu(device)
    low, high, size = _bounds(low, high, size)
    if isinstance(size, int):
        raise TypeError(f"randint(): argument 'size' (position 2) must be tuple of ints, not {type(size).__name__}")
    random, stream = _source(generator)
    array = random.randint(stream, low, high, _size("randint", size), _dtype("randint", dtype, _dtypes.int64).np)
    return leaf(array, requires_grad)


def _bounds(low: Any, high: Any, size: Any) -> tuple[Any, Any, Any]:
    if size is _MISSING:
        return 0, low, high
    if low is _MISSING or high is _MISSING:
        return 0, (high if low is _MISSING else low), size
    return low, high, size


@creation(random=True)
def randint_like(input, low, high=_MISSING, *, dtype=None, device=None, requires_grad=False):
    low, high = (0, low) if high is _MISSING else (low, high)
    random, stream = _source(None)
    made = _like("randint_like", input, dtype, device)
    return leaf(_visited(made, random.randint(stream, low, high, made.shape, made.dtype)), requires_grad, input)


@creation(random=True)
def randperm(n, *, generator=None, dtype=None, device=None, requires_grad=False):
    """A permutation of 0 … n-1."""
    _on_cpu(device)
    random, stream = _source(generator)
    return leaf(random.randperm(stream, n, _dtype("randperm", dtype, _dtypes.int64).np), requires_grad)


# --- random writes -----------------------------------------------------------------------------------------------------------------


def _no_gradient(grad):
    return zeros_like(grad)


@op(name="uniform", promote="none", inplace=True, arguments_first=True, method=False, function=False, vjp=dict(input=_no_gradient))
def _uniform(input, from_=0.0, to=1.0, *, generator=None):
    random, stream = _source(generator)
    return _visited(np.empty_like(input, order="K"), random.uniform(stream, from_, to, input.shape, input.dtype))


@op(name="normal", promote="none", inplace=True, arguments_first=True, method=False, function=False, vjp=dict(input=_no_gradient))
def _normal(input, mean=0.0, std=1.0, *, generator=None):
    random, stream = _source(generator)
    values = random.normal(stream, mean, std, input.shape, input.dtype, contiguous=input.flags.c_contiguous)
    return _visited(np.empty_like(input, order="K"), values)


@op(promote="none", vjp=dict(input=_no_gradient))
def bernoulli(input, *, generator=None):
    """Ones with the probability that the input gives for each element. Raises RuntimeError for one outside [0, 1]."""
    random, stream = _source(generator)
    return random.bernoulli(stream, input, input.shape, input.dtype)


@op(
    name="bernoulli",
    promote="none",
    inplace=True,
    arguments_first=True,
    method=False,
    function=False,
    node="2",
    types={"p": (int, float)},
    vjp=dict(input=_no_gradient),
)
def _bernoulli_number(input, p=0.5, *, generator=None):
    random, stream = _source(generator)
    return _visited(np.empty_like(input, order="K"), random.bernoulli(stream, p, input.shape, input.dtype))


# --- the default dtype -------------------------------------------------------------------------------------------------------------


def set_default_dtype(d: Any) -> None:
    """What Python floats become, and what functions make that are given no dtype. Raises TypeError for a dtype that is no float."""
    if not isinstance(d, _dtypes.dtype):
        raise TypeError(f"set_default_dtype(): argument 'd' must be torch.dtype, not {type(d).__name__}")
    if d.category != FLOAT:
        raise TypeError("only floating-point types are supported as the default type")
    _dtypes._DEFAULT[0] = d


__all__ = ["RANDOM", "creation", "empty_as", "leaf", "set_default_dtype"]
