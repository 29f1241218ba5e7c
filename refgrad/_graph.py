"""The tape: nodes, what they save, and the leaf nodes that accumulate.

Node classes are made by the table, one per derivative formula, named as torch names them. A saved tensor is a tuple, because making one is
on the path of every op: ``(tensor, version)`` for an input, ``(array, storage, version, output_nr)`` for a result, which is rebuilt with
its node when it is needed (holding the tensor itself would be a reference cycle). A Python number is saved as it is.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._errors import error
from refgrad._storage import Storage

SEQUENCE = itertools.count()
LAST = float("inf")


class Node:
    """A node of the backward graph. ``next``: per differentiable input an edge (node, output number), or None.

    ``outs``: per output (shape, numpy dtype; a ball's nominal dtype), what an arriving gradient must look like. ``saved`` is None once
    freed; ``plain`` holds what is no tensor. ``seq``: younger nodes run first.
    """

    next: tuple[Any, ...] = ()
    outs: tuple[Any, ...] = ()
    saved: tuple[Any, ...] | None = ()
    plain: tuple[Any, ...] = ()
    seq: float = 0
    pre_hooks: dict[int, dict[int, Any]] | None = None  # output number -> hook id -> function
    retaining: dict[int, Any] | None = None  # output number -> weak reference to the tensor that retains
    op: Any = None

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        """The gradients for ``next``, given those of the outputs (None: nothing arrived)."""
        raise NotImplementedError

    def release(self) -> None:
        for s in self.saved or ():
            if s is not None:  # torch complains where it would unpack something
                self.saved = None
                return

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[Any, ...]:
        return tuple([(None, 0) if e is None else e for e in self.next])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {hex(id(self))}>"


class AccumulateGrad(Node):
    """Adds what arrives to its leaf's ``.grad``. Runs before every other ready node, so a backward that raises leaves torch's ``.grad``."""

    seq = LAST

    def __init__(self, variable: Any) -> None:
        self.variable = variable
        data, exact = variable._data, variable._exact
        self.outs = ((data.shape, data.dtype if exact is None else exact[0]),)  # ``form``, without a call: one per op on a leaf


def form(tensor: Any) -> tuple[Any, Any]:
    """What a gradient of ``tensor`` looks like: its shape and its numpy dtype, or its nominal dtype in the exact mode."""
    return (tensor._data.shape, tensor._data.dtype if tensor._exact is None else tensor._exact[0])


class Identity(Node):
    """Stands where an edge is needed and nothing is computed."""


class Error(Node):
    """A node whose gradient is not implemented."""

    message = ""

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        raise RuntimeError(self.message)


def accumulator(leaf: Any) -> AccumulateGrad:
    """The leaf's accumulating node; lives as long as a graph holds it."""
    held = leaf._acc
    if held is None or (node := held()) is None:
        node = AccumulateGrad(leaf)
        leaf._acc = weakref.ref(node)
        if leaf._leaf_hooks:
            node.pre_hooks = {0: leaf._leaf_hooks}
    return node


def edge(tensor: Any) -> Any:
    """Where the gradient of ``tensor`` goes: (node, output number), or None where it needs none."""
    node = tensor._node
    if node is not None:
        return (node, tensor._nr)
    return (accumulator(tensor), 0) if tensor._rg else None


# --- saving ---------------------------------------------------------------------------------------------------------------


def save_input(tensor: Any) -> Any:
    """What a node keeps of an input; Python numbers and None stay as they are."""
    try:
        storage = tensor._storage
    except AttributeError:
        return [save_input(t) for t in tensor] if isinstance(tensor, (list, tuple)) else tensor
    if tensor._inference:
        raise error("inference_saved")
    return (tensor, 0 if storage is None else storage.version)


def save_result(tensor: Any) -> Any:
    storage = tensor._storage
    if storage is None:
        storage = tensor._storage = Storage(tensor._data)
    return (tensor._data, storage, storage.version, tensor._nr, tensor.__class__, tensor._exact)


def load(node: Node, saved: Any) -> Any:
    """The saved tensor, unless it was written to since."""
    if saved.__class__ is tuple:
        if len(saved) == 2:
            tensor, version = saved
            storage = tensor._storage
            if (0 if storage is None else storage.version) != version:
                raise _modified(tensor, storage.version, version)
            return tensor
        return _rebuild(node, saved)
    if saved.__class__ is list:
        return [load(node, s) for s in saved]
    return saved


def _rebuild(node: Node, saved: Any) -> Any:
    data, storage, version, nr, cls, exact = saved
    tensor = cls.__new__(cls)
    tensor._data = data
    tensor._storage = storage
    tensor._node = node
    tensor._nr = nr
    tensor._rg = True
    if exact is not None:
        tensor._exact = exact
    if storage.version != version:
        raise _modified(tensor, storage.version, version)
    return tensor


def _modified(tensor: Any, found: int, expected: int) -> Exception:
    which = f", which is output {tensor._nr} of {short_name(tensor._node)}," if tensor._node is not None else ""
    size = "[" + ", ".join(map(str, tensor._data.shape)) + "]"
    return error(
        "modified_inplace",
        tensor_type="CPUBFloat16Type" if tensor.dtype is _dtypes.bfloat16 else f"torch.{tensor.dtype.tensor_type}",
        size=size,
        which=which,
        found=found,
        expected=expected,
    )


def short_name(node: Node) -> str:
    """The node's name as errors give it: ``Exp`` of ExpBackward0, ``Min1`` of MinBackward1."""
    return node.name().removesuffix("Backward0").replace("Backward", "")


def meta(array: np.ndarray) -> tuple[Any, Any]:
    return (array.shape, array.dtype)
