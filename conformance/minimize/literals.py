"""Tensor literals, element by element: reading, laying out anew, slicing, casting.

An element is its little-endian bytes, so NaN payloads and signed zeros survive. Elements come in logical row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from conformance.program import ITEMSIZE, Literal, contiguous_strides

FLOATS = ("float16", "bfloat16", "float32", "float64")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's dtype of the same name, little-endian; bfloat16 is ml_dtypes'."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name).newbyteorder("<")


def places(shape: Sequence[int], strides: Sequence[int], offset: int) -> list[int]:
    """Where in the storage each element of that layout stands, in row-major order."""
    found = np.full((1,) * len(shape), offset, dtype=np.int64)
    for dim, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        found = found + (np.arange(size) * stride).reshape([-1 if d == dim else 1 for d in range(len(shape))])
    return [int(place) for place in found.ravel()]


def storage(literal: Literal) -> list[bytes]:
    """Every element of the storage, those that the tensor does not reach included."""
    step = ITEMSIZE[literal.dtype]
    return [literal.data[i : i + step] for i in range(0, len(literal.data), step)]


def elements(literal: Literal) -> list[bytes]:
    """The elements in row-major order, each as ``ITEMSIZE[dtype]`` bytes."""
    stored = storage(literal)
    return [stored[place] for place in places(literal.shape, literal.strides, literal.offset)]


def laid_out(dtype: str, shape: Sequence[int], strides: Sequence[int], offset: int, items: Sequence[bytes]) -> Literal:
    """Those elements in that layout, the storage no longer than it must be and zero in the gaps.

    Where elements share a place the last one wins.
    """
    where = places(shape, strides, offset)
    stored = [bytes(ITEMSIZE[dtype])] * (max(where) + 1 if where else 0)
    for place, item in zip(where, items, strict=True):
        stored[place] = item
    return Literal(dtype, tuple(shape), tuple(strides), offset, b"".join(stored))


def from_elements(dtype: str, shape: Sequence[int], items: Sequence[bytes]) -> Literal:
    """A contiguous literal of those elements."""
    return laid_out(dtype, shape, contiguous_strides(tuple(shape)), 0, items)


def with_elements(literal: Literal, items: Sequence[bytes]) -> Literal:
    """The same layout holding other elements."""
    return laid_out(literal.dtype, literal.shape, literal.strides, literal.offset, items)


def contiguous(literal: Literal) -> Literal:
    return from_elements(literal.dtype, literal.shape, elements(literal))


def dense(literal: Literal) -> Literal:
    """Without offset and gaps, the dims in the same order in memory; expanded dims (stride 0) stay expanded."""
    strides, step = [0] * len(literal.shape), 1
    for dim in sorted(range(len(literal.shape)), key=lambda d: (literal.strides[d], -d)):
        if literal.strides[dim]:
            strides[dim] = step
            step *= max(literal.shape[dim], 1)
    return laid_out(literal.dtype, literal.shape, strides, 0, elements(literal))


def shifted(literal: Literal) -> Literal:
    """The same strides at offset 0, without the elements that the tensor does not reach."""
    return laid_out(literal.dtype, literal.shape, literal.strides, 0, elements(literal))


def keep(literal: Literal, dim: int, kept: Sequence[int]) -> Literal:
    """Only those indices of ``dim``. A contiguous literal stays contiguous, any other keeps its strides and offset."""
    items = np.arange(math.prod(literal.shape)).reshape(literal.shape).take(kept, axis=dim)
    all_items = elements(literal)
    chosen = [all_items[i] for i in items.ravel()]
    shape = items.shape
    if literal.strides == contiguous_strides(literal.shape) and literal.offset == 0:
        return from_elements(literal.dtype, shape, chosen)
    return laid_out(literal.dtype, shape, literal.strides, literal.offset, chosen)


def drop_dim(literal: Literal, dim: int, index: int = 0) -> Literal:
    """The slice at ``index`` of ``dim``, without that dim. The dim must not be empty."""
    one = keep(literal, dim, [index])
    return replace(one, shape=_except(one.shape, dim), strides=_except(one.strides, dim))


def cast(literal: Literal, dtype: str) -> Literal:
    """The same layout and, as far as ``dtype`` holds them, the same values."""
    stored = np.frombuffer(literal.data, numpy_dtype(literal.dtype))
    with np.errstate(all="ignore"):
        return replace(literal, dtype=dtype, data=stored.astype(numpy_dtype(dtype)).tobytes())


@lru_cache(maxsize=1 << 14)
def decode(dtype: str, item: bytes) -> Decimal:
    """The element's value, as the shortest decimal that reads back as it in its dtype; a NaN loses its payload."""
    value = np.frombuffer(item, numpy_dtype(dtype))[0]
    if dtype not in FLOATS:
        return Decimal(int(value))
    return Decimal(_shortest_bfloat16(float(value), item) if dtype == "bfloat16" else str(value))


def encode(dtype: str, value: Decimal | int) -> bytes | None:
    """The element nearest to ``value``; None where an integer dtype or bool cannot hold it."""
    wanted = numpy_dtype(dtype)
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            return np.array(float(value)).astype(wanted).tobytes()
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
    held = Decimal(value).is_finite() and low <= value <= high and value == int(value)
    return np.array(int(value), dtype=wanted).tobytes() if held else None


def _shortest_bfloat16(value: float, item: bytes) -> str:
    """ml_dtypes prints six digits, needed or not."""
    texts = (f"{value:.{digits}e}" for digits in range(4))
    return next((text for text in texts if encode("bfloat16", Decimal(text)) == item), repr(value))


def _except(items: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return items[:dim] + items[dim + 1 :]
