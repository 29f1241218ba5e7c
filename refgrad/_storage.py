"""Storage: memory and version counter, shared by views and detached aliases."""

from __future__ import annotations

from typing import Any

import numpy as np


class Storage:
    """``owner`` is the array whose memory this is; ``version`` counts in-place writes through any alias."""

    __slots__ = ("__weakref__", "owner", "version")

    def __init__(self, owner: np.ndarray, version: int = 0) -> None:
        while (base := owner.base) is not None and isinstance(base, np.ndarray):
            owner = base
        self.owner = owner
        self.version = version


def every(mask: Any) -> bool:
    """``mask.all()`` of booleans; numpy's own takes microseconds to begin, which is what judging a few elements costs."""
    return b"\0" not in mask.tobytes()


def some(mask: Any) -> bool:
    """``mask.any()`` of booleans; see ``every``."""
    return b"\1" in mask.tobytes()


def storage_offset(array: np.ndarray, storage: Storage) -> int:
    """How many elements ``array`` starts after its storage."""
    if array.size == 0 and storage.owner.size == 0:
        return 0
    return (address(array) - address(storage.owner)) // (array.itemsize or 1)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def element_strides(array: np.ndarray) -> tuple[int, ...]:
    """Strides counted in elements, as torch counts them."""
    size = array.itemsize
    return tuple([s // size for s in array.strides])


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether two indices may name one memory location, by torch's conservative test (exact for the strides torch makes itself)."""
    if array.size == 0:
        return False
    dims = sorted((s, n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    expected = array.itemsize
    for stride, size in dims:
        if stride < expected:
            return True
        expected = max(expected, stride * size)
    return False


def locations(array: np.ndarray, storage: Storage) -> np.ndarray:
    """For every element, in index order, its place in the storage (in elements). Shape: that of ``array``."""
    offset = storage_offset(array, storage)
    places: Any = offset
    for axis, (stride, size) in enumerate(zip(element_strides(array), array.shape, strict=True)):
        shape = [1] * array.ndim
        shape[axis] = size
        places = places + (np.arange(size) * stride).reshape(shape)
    return np.broadcast_to(places, array.shape)


# --- the memory order of elementwise results ------------------------------------------------------------------------------------


def laid_out(result: np.ndarray, operands: list[np.ndarray]) -> np.ndarray:
    """``result`` in the memory order that torch's elementwise kernels give it: the first operand that tells two dims apart decides which is
    outer.

    numpy decides differently where operands disagree, and for broadcast dims. Ops whose operands are all contiguous need no call of this.
    """
    shape, ndim = result.shape, result.ndim
    operands = [a for a in operands if a.ndim]
    if ndim < 2 or result.size == 0 or not operands or np.broadcast_shapes(*(a.shape for a in operands)) != shape:
        return result
    first = operands[0]
    if first.shape == shape and all(a.shape == shape and a.strides == first.strides for a in operands) and is_dense(first):
        order = sorted(range(ndim), key=lambda d: (-first.strides[d], d))
    else:
        order = _sorted_dims([_broadcast_strides(a, shape) for a in operands], shape)
    return _in_order(result, order)


def is_dense(a: np.ndarray) -> bool:
    """Non-overlapping and dense: every place of the memory from its first to its last element is one element."""
    if a.flags.c_contiguous:
        return True
    return not overlaps_itself(a) and a.nbytes == sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)) + a.itemsize


def _broadcast_strides(a: np.ndarray, shape: tuple[int, ...]) -> list[int]:
    """In elements; 0 where a dim is stretched. A dim of one element that stays one keeps its stride, and takes part."""
    missing = len(shape) - a.ndim
    strides = [0 if n != m else s // a.itemsize for n, m, s in zip(a.shape, shape[missing:], a.strides, strict=True)]
    return [0] * missing + strides


def _sorted_dims(strides: list[list[int]], shape: tuple[int, ...]) -> list[int]:
    """Dims from outermost to innermost: an insertion sort that starts from row-major order and moves a dim only past ones it clearly
    belongs before.
    """
    inner_first = list(range(len(shape) - 1, -1, -1))
    for i in range(1, len(inner_first)):
        dim1 = i
        for dim0 in range(i - 1, -1, -1):
            compared = _compare(strides, shape, inner_first[dim0], inner_first[dim1])
            if compared > 0:
                inner_first[dim0], inner_first[dim1] = inner_first[dim1], inner_first[dim0]
                dim1 = dim0
            elif compared < 0:
                break
    return inner_first[::-1]


def _compare(strides: list[list[int]], shape: tuple[int, ...], a: int, b: int) -> int:
    """1 where dim ``a`` must be outside of ``b``, -1 where inside, 0 where no operand tells."""
    for each in strides:
        if each[a] == 0 or each[b] == 0:
            continue
        if each[a] != each[b]:
            return -1 if each[a] < each[b] else 1
        if shape[a] > shape[b]:
            return 1
    return 0


def _in_order(result: np.ndarray, order: list[int]) -> np.ndarray:
    laid = np.empty([result.shape[d] for d in order], result.dtype).transpose(np.argsort(order))
    if laid.strides == result.strides:
        return result
    laid[...] = result
    return laid


def from_memory(memory: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    """A view of 1-d memory by strides and offset in elements. It keeps ``memory`` as its base (numpy's as_strided does not)."""
    item = memory.itemsize
    return np.ndarray(shape, memory.dtype, memory.view(np.uint8), offset * item if memory.size else 0, [s * item for s in strides])
