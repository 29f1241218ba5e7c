"""refgrad as a subject: the reference, and itself under test."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

import refgrad
from conformance.program import Literal
from conformance.subjects.walk import shown
from refgrad._dtypes import BY_NAME
from refgrad._storage import Storage, element_strides, from_memory
from refgrad._table import TABLE
from refgrad._tensor import make, own_storage

#: the version of torch whose documented behaviour refgrad follows
TORCH = "2.13.0"


_NAMES = {d.np: d.name for d in BY_NAME.values()}


@lru_cache(maxsize=4096)
def _in_elements(strides: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(s // itemsize for s in strides)


class Reference:
    name = "refgrad"
    module = refgrad

    def literal(self, literal: Literal, requires_grad: bool) -> Any:
        memory = np.frombuffer(literal.data, BY_NAME[literal.dtype].np).copy()
        tensor = make(from_memory(memory, literal.shape, literal.strides, literal.offset))
        tensor._storage = Storage(memory)
        return tensor.requires_grad_() if requires_grad else tensor

    def bits(self, tensor: Any) -> np.ndarray:
        return np.array(tensor._data, order="C")

    def storage(self, tensor: Any) -> int:
        return id(own_storage(tensor))

    def dtype(self, name: str) -> Any:
        return BY_NAME[name]

    def layout(self, tensor: Any) -> tuple[str, tuple[int, ...], tuple[int, ...], int]:
        data = tensor._data
        return (_NAMES[data.dtype], data.shape, _in_elements(data.strides, data.itemsize), tensor.storage_offset())

    def facts(self, tensor: Any) -> tuple[Any, ...]:
        """As ``shown``. A tensor that is no view is asked directly: its properties take longer than all else that happens to it."""
        if tensor._view is not None:
            return shown(tensor)
        node, storage, inference = tensor._node, tensor._storage, tensor._inference
        version = 0 if inference or storage is None else storage.version
        name = "" if node is None else node.__class__.__name__
        return (tensor._rg, node is None, name, tensor._nr, tensor._retains and node is not None, inference, version)

    def function(self, op: str) -> Callable[..., Any]:
        public: Callable[..., Any] = TABLE[op].public
        return public

    def synchronize(self) -> None:
        pass

    def lay_out(self, tensor: Any, strides: tuple[int, ...]) -> None:
        """The tensor's elements in new memory with these strides, unless it lies so already where strides address anything."""
        data = tensor._data
        if data.size == 0 or all(a == b for a, b, n in zip(element_strides(data), strides, data.shape, strict=True) if n > 1):
            return
        memory = np.empty(1 + sum((n - 1) * s for n, s in zip(data.shape, strides, strict=True)), data.dtype)
        laid = from_memory(memory, data.shape, strides, 0)
        laid[...] = data
        tensor._data, tensor._storage, tensor._view = laid, None, None

    def describe(self) -> dict[str, str]:
        return {"version": "reference", "torch": TORCH, "capability": "numpy"}


def make_reference(device: str = "cpu") -> Reference:
    """refgrad as a subject; it has the CPU only."""
    if device != "cpu":
        raise ValueError(f"refgrad computes on the CPU only, not on {device!r}")
    return Reference()
