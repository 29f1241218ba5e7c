"""Joining tensors into one, and parting one into several views."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad._errors import declare, error
from refgrad._ops.reduction import DIM, normal_dims
from refgrad._table import TABLE, op

declare("tensor_list", TypeError, "{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {kind}")
declare("cat_empty", ValueError, "torch.cat(): expected a non-empty list of Tensors")
declare("cat_0d", RuntimeError, "zero-dimensional tensor (at position {place}) cannot be concatenated")
declare("cat_dims", RuntimeError, "Tensors must have same number of dimensions: got {a} and {b}")
declare(
    "cat_sizes",
    RuntimeError,
    "Sizes of tensors must match except in dimension {dim}. Expected size {expected} but got size {found} for tensor number {place} "
    "in the list.",
)
declare("stack_empty", RuntimeError, "{name} expects a non-empty TensorList")
declare("stack_sizes", RuntimeError, "stack expects each tensor to be equal size, but got {first} at entry 0 and {other} at entry {place}")
declare("split_0d", RuntimeError, "{name} expects at least a 1-dimensional tensor")
declare("split_zero", RuntimeError, "split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
declare("split_negative", RuntimeError, "split expects split_size be non-negative, but got split_size={size}")
declare(
    "split_sum",
    RuntimeError,
    "split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension {dim}), but got split_sizes={sizes}",
)
declare(
    "split_sizes_negative", RuntimeError, "split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={sizes}"
)
declare("chunk_count", RuntimeError, "chunk expects `chunks` to be greater than 0, got: {chunks}")
declare("unbind_0d", IndexError, "Dimension specified as 0 but tensor has no dimensions")
declare("tensor_split_count", RuntimeError, "number of sections must be larger than 0, got {sections}")
declare("tensor_split_0d", RuntimeError, "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")


def _tensor_list(name: str, tensors: Any) -> None:
    if not isinstance(tensors, (list, tuple)):
        raise error("tensor_list", name=name, kind=type(tensors).__name__)


# --- cat, stack ----------------------------------------------------------------------------------------------------------------------


def _is_legacy_empty(shape: tuple[int, ...]) -> bool:
    """An empty vector joins with anything: how lists were started before tensors could have a dim of size 0."""
    return shape == (0,)


def _check_cat(tensors: Any, dim: int) -> None:
    _tensor_list("cat", tensors)
    if not tensors:
        raise error("cat_empty")
    shapes = [t._data.shape for t in tensors]
    for place, shape in enumerate(shapes):
        if not shape:
            raise error("cat_0d", place=place)
    real = [(place, s) for place, s in enumerate(shapes) if not _is_legacy_empty(s)]
    if not real:  # then torch does not look at dim
        return
    first = real[0][1]
    (axis,) = normal_dims(dim, len(first))
    for place, shape in real[1:]:
        if len(shape) != len(first):
            raise error("cat_dims", a=len(first), b=len(shape))
        for d, (expected, found) in enumerate(zip(first, shape, strict=True)):
            if d != axis and expected != found:
                raise error("cat_sizes", dim=axis, expected=expected, found=found, place=place)


def _cat_vjp(grad: Any, tensors_shape: list[tuple[int, ...]], dim: int) -> list[Any]:
    grads, start = [], 0
    for shape in tensors_shape:
        if _is_legacy_empty(shape):
            grads.append(grad.new_zeros((0,)))
            continue
        (axis,) = normal_dims(dim, len(shape))
        grads.append(grad.narrow(axis, start, shape[axis]))
        start += shape[axis]
    return grads


@op(tensors=("tensors",), method=False, direct=True, error="exact", check=_check_cat, vjp=dict(tensors=_cat_vjp))
def cat(tensors, dim=0):
    real = [t for t in tensors if not _is_legacy_empty(t.shape)]
    return np.ascontiguousarray(np.concatenate(real, axis=dim)) if real else tensors[0].copy()


def _check_stack(tensors: Any, dim: int) -> None:
    _tensor_list("stack", tensors)
    if not tensors:
        raise error("stack_empty", name="stack")
    first = tensors[0]._data.shape
    normal_dims(dim, len(first) + 1)
    for place, t in enumerate(tensors):
        if t._data.shape != first:
            raise error("stack_sizes", first=list(first), other=list(t._data.shape), place=place)


@op(
    tensors=("tensors",), method=False, direct=True, error="exact", check=_check_stack, vjp=dict(tensors=lambda grad, dim: grad.unbind(dim))
)
def stack(tensors, dim=0):
    return np.ascontiguousarray(np.stack(tensors, axis=dim))


def _at_least(t: Any, ndim: int) -> Any:
    """Dims of size 1 put where ``atleast_1d`` … ``atleast_3d`` put them: in front, and for the third dim behind."""
    if t._data.ndim == 0 and ndim >= 1:
        t = t.reshape((1,))
    if t._data.ndim == 1 and ndim >= 2:
        t = t.unsqueeze(0)
    return t.unsqueeze(-1) if t._data.ndim == 2 and ndim == 3 else t


def _lifted(name: str, tensors: Any, ndim: int) -> list[Any]:
    _tensor_list(name, tensors)
    if not tensors:
        raise error("stack_empty", name=name)
    return [_at_least(t, ndim) for t in tensors]


@op(composite=True, tensors=("tensors",), method=False)
def hstack(tensors):
    lifted = _lifted("hstack", tensors, 1)
    return cat(lifted, 0 if lifted[0]._data.ndim == 1 else 1)


@op(composite=True, tensors=("tensors",), method=False)
def vstack(tensors):
    return cat(_lifted("vstack", tensors, 2), 0)


@op(composite=True, tensors=("tensors",), method=False)
def dstack(tensors):
    return cat(_lifted("dstack", tensors, 3), 2)


# --- split, chunk, unbind --------------------------------------------------------------------------------------------------------------


def _axis(name: str, shape: tuple[int, ...], dim: int) -> int:
    if not shape:
        raise error("split_0d", name=name)
    return normal_dims(dim, len(shape))[0]


def _parts(input: np.ndarray, sizes: list[int], axis: int) -> list[np.ndarray]:
    """Views of consecutive stretches along ``axis``."""
    before: tuple[Any, ...] = (slice(None),) * axis
    parts, start = [], 0
    for size in sizes:
        parts.append(input[(*before, slice(start, start + size))])
        start += size
    return parts


def _even_sizes(size: int, split_size: int) -> list[int]:
    if split_size == 0:
        return [0]
    full, rest = divmod(size, split_size)
    return [*[split_size] * full, rest] if rest or not full else [split_size] * full


def _joined(grads: list[Any], shape: tuple[int, ...], sizes: list[int], axis: int) -> Any:
    """The gradients of the parts put together, zeros where none arrived."""
    there = next(g for g in grads if g is not None)
    whole = [there.new_zeros((*shape[:axis], n, *shape[axis + 1 :])) if g is None else g for g, n in zip(grads, sizes, strict=True)]
    return cat(whole, axis)


def _split_vjp(grad: list[Any], input_shape: tuple[int, ...], split_size: int, dim: int) -> Any:
    axis = normal_dims(dim, len(input_shape))[0]
    return _joined(grad, input_shape, _even_sizes(input_shape[axis], split_size), axis)


@op(promote="none", view=True, multi=True, types=dict(split_size=DIM), vjp=dict(input=_split_vjp))
def split(input, split_size, dim=0):
    axis = _axis("split", input.shape, dim)
    if split_size < 0:
        raise error("split_negative", size=split_size)
    if split_size == 0 and input.shape[axis]:
        raise error("split_zero", size=input.shape[axis])
    return _parts(input, _even_sizes(input.shape[axis], split_size), axis)


def _sizes_vjp(grad: list[Any], input_shape: tuple[int, ...], split_sizes: Any, dim: int) -> Any:
    return _joined(grad, input_shape, list(split_sizes), normal_dims(dim, len(input_shape))[0])


@op(promote="none", view=True, multi=True, vjp=dict(input=_sizes_vjp))
def split_with_sizes(input, split_sizes, dim=0):
    axis, sizes = _axis("split", input.shape, dim), list(split_sizes)
    if sizes and min(sizes) < 0:
        raise error("split_sizes_negative", sizes=sizes)
    if sum(sizes) != input.shape[axis]:
        raise error("split_sum", size=input.shape[axis], dim=axis, sizes=sizes)
    return _parts(input, sizes, axis)


@op(name="split", composite=True, types=dict(split_size=(list, tuple)))
def _split_sections(input, split_size, dim=0):
    return split_with_sizes(input, split_size, dim)


@op(name="split", composite=True, tensors=("tensor",))
def _split_function(tensor, split_size_or_sections, dim=0):
    sections = isinstance(split_size_or_sections, (list, tuple))
    return (split_with_sizes if sections else split)(tensor, split_size_or_sections, dim)


@op(composite=True)
def chunk(input, chunks, dim=0):
    """At most ``chunks`` parts of equal size, but for the last."""
    axis = _axis("chunk", input._data.shape, dim)
    if chunks <= 0:
        raise error("chunk_count", chunks=chunks)
    size = input._data.shape[axis]
    return split_with_sizes(input, [0] * chunks, dim) if size == 0 else split(input, -(-size // chunks), dim)


def _unbind_vjp(grad: list[Any], dim: int) -> Any:
    there = next((g for g in grad if g is not None), None)
    if there is None:
        return None
    zeros = TABLE["zeros_like"].public
    return stack([zeros(there) if g is None else g for g in grad], dim)


@op(promote="none", view=True, multi=True, vjp=dict(input=_unbind_vjp))
def unbind(input, dim=0):
    dims = normal_dims(dim, input.ndim)
    if not dims:
        raise error("unbind_0d")
    axis = dims[0]
    before: tuple[Any, ...] = (slice(None),) * axis
    return [input[(*before, i, ...)] for i in range(input.shape[axis])]


@op(composite=True, types=dict(indices_or_sections=(int, list, tuple)))
def tensor_split(input, indices_or_sections, dim=0):
    """So many parts of nearly equal size, or parts that end at the given places, as ``numpy.array_split``."""
    shape = input._data.shape
    if not shape:
        raise error("tensor_split_0d")
    (axis,) = normal_dims(dim, len(shape))
    ends = _section_ends(shape[axis], indices_or_sections) if isinstance(indices_or_sections, int) else [*indices_or_sections, shape[axis]]
    starts = [0, *ends[:-1]]
    return tuple([_sliced(input, axis, start, end) for start, end in zip(starts, ends, strict=True)])


def _section_ends(size: int, sections: int) -> list[int]:
    if sections <= 0:
        raise error("tensor_split_count", sections=sections)
    small, larger = divmod(size, sections)
    return [small * (i + 1) + min(i + 1, larger) for i in range(sections)]


def _sliced(input: Any, axis: int, start: int, end: int) -> Any:
    first, last, _ = slice(start, end).indices(input._data.shape[axis])
    return input.narrow(axis, first, max(last - first, 0))


@op(name="tensor_split", composite=True)
def _tensor_split_sections(input, sections, dim=0):
    return tensor_split(input, sections, dim)


@op(name="tensor_split", composite=True)
def _tensor_split_indices(input, indices, dim=0):
    return tensor_split(input, indices, dim)
