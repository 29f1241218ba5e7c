"""backward and grad: order, accumulation, hooks, freeing."""

from __future__ import annotations

import sys
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from refgrad import _dtypes
from refgrad._dtypes import F32, F64
from refgrad._errors import error, warn_once
from refgrad._grad_mode import GRAD, MODE, NO_GRAD
from refgrad._graph import AccumulateGrad, Node, edge
from refgrad._storage import is_dense
from refgrad._tensor import TABLE, Tensor, own_storage, refresh

#: what getrefcount shows in ``_first`` for a gradient that nobody else holds: the locals of _execute, accumulate, _first, and its own
#: argument
_PLAIN_REFERENCES = 4
#: the same in ``_arrive``: the buffer, the local, the argument; and for a storage: the tensor, the local, the argument
_BUFFERED_REFERENCES = 3
_STORAGE_REFERENCES = 3


_CYCLE = (
    "Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient which can cause a "
    "memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you have to use this function, make sure "
    "to reset the .grad fields of your parameters to None after use to break the cycle and avoid the leak."
)


class _Task:
    """One backward pass: how many gradients each node still waits for, what has arrived, what is to be captured."""

    __slots__ = ("buffers", "captured", "create_graph", "needed", "retain", "targets", "waiting", "wanted")

    def __init__(self, retain: bool, create_graph: bool) -> None:
        self.retain = retain
        self.create_graph = create_graph
        self.waiting: dict[Node, int] = {}
        self.buffers: dict[Node, list[Any]] = {}
        self.wanted: dict[Any, list[int]] = {}  # (node, output number) -> places in the `inputs` of grad
        self.targets: frozenset[Node] = frozenset()  # the nodes of `inputs`
        self.needed: set[Node] | None = None  # nodes that must run to reach `inputs`; None: all
        self.captured: dict[int, Any] = {}


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Accumulates into the leaves' ``.grad`` (or into ``inputs``)."""
    if inputs is not None:
        inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        if not inputs:
            raise error("inputs_empty")
    tensors = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
    grads = make_grads(tensors, _as_tuple(grad_tensors, len(tensors)))
    retain = create_graph if retain_graph is None else retain_graph
    run(tensors, grads, retain, create_graph, inputs, accumulate=True, allow_unused=True)


def _method(self: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None) -> None:
    if inputs is not None:
        backward((self,), gradient, retain_graph, create_graph, inputs)
        return
    roots = (self,)
    grads = make_grads(roots, (gradient,) if gradient is None or isinstance(gradient, Tensor) else tuple(gradient))
    run(roots, grads, create_graph if retain_graph is None else retain_graph, create_graph, None, accumulate=True, allow_unused=True)


_method.__name__ = "backward"
Tensor.backward = _method  # type: ignore[attr-defined]  # here, since the tensor's module cannot import this one


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    only_inputs: bool = True, allow_unused: bool | None = None, is_grads_batched: bool = False, materialize_grads: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of ``outputs`` with respect to ``inputs``, as new tensors; no ``.grad`` is touched."""
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if not inputs:
        raise error("grad_inputs_empty")
    grads = make_grads(outputs, _as_tuple(grad_outputs, len(outputs)))
    retain = create_graph if retain_graph is None else retain_graph
    found = run(outputs, grads, retain, create_graph, inputs, accumulate=False, allow_unused=allow_unused)
    if materialize_grads:
        found = tuple(
            [TABLE["zeros_like"].public(i, requires_grad=create_graph) if g is None else g for g, i in zip(found, inputs, strict=True)]
        )
    return found


def _as_tuple(grads: Any, count: int) -> tuple[Any, ...]:
    if grads is None:
        return (None,) * count
    return (grads,) if isinstance(grads, Tensor) else tuple(grads)


def make_grads(outputs: tuple[Any, ...], grads: tuple[Any, ...]) -> tuple[Any, ...]:
    """The gradients to start from: as given, or ones for scalars. Raises torch's errors for wrong ones."""
    if len(outputs) > len(grads):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(grads)} gradients")
    if len(outputs) == 1 and grads[0] is None:
        return (_implicit(outputs[0], 0),)
    return tuple(
        [_implicit(out, place) if g is None else _given(out, g, place) for place, (out, g) in enumerate(zip(outputs, grads, strict=False))]
    )


def _implicit(out: Tensor, place: int) -> Any:
    if not (out._rg or out.requires_grad):
        return None  # the engine says which root has no graph
    data = out._data
    if data.size != 1:
        raise error("implicit_scalar")
    if out.dtype.category != _dtypes.FLOAT:
        raise error("implicit_float", dtype=out.dtype)
    if out._exact is None and not MODE.inference:
        ones = Tensor.__new__(Tensor)
        ones._data = np.empty(data.shape, data.dtype)
        ones._data.fill(1)
        return ones
    return TABLE["ones_like"].public(out)


def _given(out: Tensor, grad: Any, place: int) -> Any:
    if not isinstance(grad, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(grad).__name__}")
    if grad._data.shape != out._data.shape:
        raise error("grad_shape", place=place, grad=grad.shape, output=out.shape)
    return grad


# --- running ---------------------------------------------------------------------------------------------------------------


def run(
    roots: tuple[Any, ...],
    grads: tuple[Any, ...],
    retain: bool,
    create_graph: bool,
    inputs: tuple[Any, ...] | None,
    accumulate: bool,
    allow_unused: bool,
) -> tuple[Any, ...]:
    task = _Task(retain, create_graph)
    edges = []
    for place, root in enumerate(roots):
        if not (root._rg or root.requires_grad):
            raise error("no_grad_fn", place=place)
        edges.append(_edge(root))
        if edges[-1] is None:  # a view that was recorded nowhere requires grad because its base does
            raise error("no_grad_fn", place=place)
    targets = _targets(task, inputs, accumulate) if inputs is not None else []
    if create_graph and accumulate:
        warn_once("create_graph", _CYCLE, level=4)
    started = _count(task, [e[0] for e in edges])
    if inputs is not None:
        task.targets = frozenset(targets)
        task.needed = _needed(targets, started | task.waiting.keys(), accumulate)
    mode, MODE.mode = MODE.mode, GRAD if create_graph and not MODE.inference else NO_GRAD
    try:
        for (node, nr), g in zip(edges, grads, strict=True):
            _arrive(task, node, nr, _fit(g, (node, nr), node, 0))
        _execute(task, {e[0]: None for e in edges})
    finally:
        MODE.mode = mode
    return _results(task, inputs, accumulate, allow_unused)


def _edge(tensor: Any) -> Any:
    """The gradient edge, its node rebuilt where it is a view whose base was written to (raises where torch forbids that)."""
    if tensor._view is not None:
        refresh(tensor)
    return edge(tensor)


def _targets(task: _Task, inputs: tuple[Any, ...], accumulate: bool) -> list[Node]:
    """The nodes of ``inputs``. What arrives there is accumulated (by the leaf's own node, or by retain_grad), or captured for ``grad``."""
    targets = []
    for place, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise error("retain_needs_grad" if accumulate else "input_needs_grad")
        node, nr = _edge(tensor)
        targets.append(node)
        if accumulate:
            tensor.retain_grad()
        else:
            task.wanted.setdefault((node, nr), []).append(place)
    return targets


def _count(task: _Task, roots: list[Node]) -> set[Node]:
    """Counts how many gradients each reachable node will get from other nodes; returns the roots."""
    waiting = task.waiting
    started = set(roots)  # two roots may be outputs of one node
    stack = list(started)
    while stack:
        for e in stack.pop().next:
            if e is not None:
                node = e[0]
                if node in waiting:
                    waiting[node] += 1
                else:
                    waiting[node] = 1
                    if node not in started:
                        stack.append(node)
    return started


def _needed(targets: list[Node], reachable: set[Node], accumulate: bool) -> set[Node]:
    """Nodes that must run: those from which a target can be reached, and the targets themselves where they accumulate."""
    users: dict[Node, list[Node]] = {}
    for node in reachable:
        for e in node.next:
            if e is not None:
                users.setdefault(e[0], []).append(node)
    needed: set[Node] = set(targets) if accumulate else set()
    stack = list(targets)
    while stack:
        for user in users.get(stack.pop(), ()):
            if user not in needed:
                needed.add(user)
                stack.append(user)
    return needed


def _arrive(task: _Task, node: Node, nr: int, gradient: Any) -> None:
    """Adds one gradient to what a node's output has got so far."""
    buffer = task.buffers.get(node)
    if buffer is None:
        task.buffers[node] = buffer = [None] * len(node.outs)
    if gradient is None:
        return
    held = buffer[nr]
    if held is None:
        buffer[nr] = gradient
    elif (
        MODE.mode != GRAD
        and sys.getrefcount(held) <= _BUFFERED_REFERENCES
        and _owns_memory(held)
        and held._data.dtype is gradient._data.dtype
    ):
        _add_into(held, gradient)
    else:
        buffer[nr] = TABLE["add"].public(held, gradient)


def _add_into(held: Any, gradient: Any) -> None:
    """``held.add_(gradient)`` where nothing is recorded; floats of one shape and dtype, in memory of their own, need none of the checks."""
    a, b, storage = held._data, gradient._data, held._storage
    plain = held.__class__ is Tensor and gradient.__class__ is Tensor and not held._inference
    apart = storage is None or storage is not gradient._storage
    if plain and apart and (a.dtype is F32 or a.dtype is F64) and a.dtype is b.dtype and a.shape == b.shape and a.flags.c_contiguous:
        np.add(a, b, a)
        own_storage(held).version += 1
    else:
        TABLE["add"].inplace_public(held, gradient)


def _owns_memory(held: Any) -> bool:
    """Nobody else sees a buffered gradient's memory, so that it may be added to in place, as torch does; a ball would lose its radius."""
    storage = held._storage
    return (
        held._exact is None
        and is_dense(held._data)
        and not held._inference
        and (storage is None or sys.getrefcount(storage) <= _STORAGE_REFERENCES)
    )


def _execute(task: _Task, roots: dict[Node, None]) -> None:
    """Runs every node once all that it waits for has arrived, the youngest first. ``alone``: a ready node beside which none is ready."""
    waiting, buffers, needed, retain = task.waiting, task.buffers, task.needed, task.retain
    ready = [(-node.seq, i, node) for i, node in enumerate(roots) if not waiting.get(node)]
    heapify(ready)
    count, alone = len(ready), None
    while ready or alone is not None:
        node: Any
        node, alone = heappop(ready)[2] if alone is None else alone, None
        grads: Any = buffers.pop(node)
        if node.pre_hooks is not None or node.retaining is not None:
            _call_hooks(node, grads)
        if needed is not None and not _runs(task, node, grads):
            continue
        if node.__class__ is AccumulateGrad:
            if grads[0] is not None:
                _at_leaf(node.variable, grads, task.create_graph)
            grads = None
            continue
        sent = list(node.apply(grads))
        grads = None
        if not retain:
            node.release()
        for place, e in enumerate(node.next):
            gradient, sent[place] = sent[place], None  # what has been delivered is held by nobody here: it may be added to in place
            if e is None:
                continue
            to, nr = e
            if gradient is not None:
                data, (shape, dtype) = gradient._data, to.outs[nr]
                if data.shape != shape or data.dtype is not dtype or gradient._exact is not None:
                    gradient = _fit(gradient, e, node, place)
            if needed is not None and to not in needed and to not in task.targets:
                continue
            if to in buffers or len(to.outs) > 1:
                _arrive(task, to, nr, gradient)
            else:
                buffers[to] = [gradient]
            gradient = None
            left = waiting[to] = waiting[to] - 1
            if left:
                continue
            if alone is None and not ready:
                alone = to
                continue
            for each in (to,) if alone is None else (alone, to):
                count += 1
                heappush(ready, (-each.seq, count, each))
            alone = None


def _at_leaf(leaf: Any, grads: list[Any], create_graph: bool) -> None:
    if leaf._node is not None:
        raise error("leaf_in_graph")
    if leaf._rg:
        gradient = grads.pop()
        accumulate(leaf, gradient, create_graph)


def _runs(task: _Task, node: Node, grads: list[Any]) -> bool:
    """Whether the node is on the way to one of ``inputs``; what arrived for them is captured."""
    if task.wanted:
        _capture(task, node, grads)
    return node in task.needed  # type: ignore[operator]


def _expands(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    return len(shape) <= len(wide) and all(n in (1, m) for n, m in zip(shape[::-1], wide[::-1], strict=False))


def _fit(gradient: Any, e: Any, node: Node, place: int) -> Any:
    """The gradient in the shape and dtype of what it is the gradient of (broadcasting undone, promotion undone)."""
    if gradient is None:
        return None
    shape, dtype = e[0].outs[e[1]]
    data = gradient._data
    if data.shape != shape:
        if not _expands(shape, data.shape):
            raise error("invalid_gradient", node=node.name(), place=place, got=list(data.shape), shape=list(shape))
        gradient = TABLE["sum_to_size"].public(gradient, shape)
    if (data.dtype if gradient._exact is None else gradient._exact[0]) is not dtype:
        gradient = TABLE["to"].public(gradient, _dtypes.OF.get(dtype, dtype))
    return gradient


def _call_hooks(node: Node, grads: list[Any]) -> None:
    if node.pre_hooks is not None:
        for nr, hooks in node.pre_hooks.items():
            for hook in list(hooks.values()):  # also where nothing arrived: torch calls them with None
                returned = hook(grads[nr])
                if returned is not None:
                    grads[nr] = _checked(hook, returned, grads[nr])
    for nr, reference in (node.retaining or {}).items():
        tensor = reference()
        if tensor is not None and grads[nr] is not None:
            held = tensor._grad
            tensor._grad = TABLE["_contiguous_clone"].public(grads[nr]) if held is None else TABLE["add"].public(held, grads[nr])


def _checked(hook: Any, returned: Any, gradient: Any) -> Any:
    if not isinstance(returned, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(returned).__name__}'")
    if gradient is None:
        return returned
    name = getattr(hook, "__name__", "<unknown>")
    if returned._data.shape != gradient._data.shape:
        raise RuntimeError(f"hook '{name}' has changed the size of value")
    if returned._data.dtype is not gradient._data.dtype:
        raise RuntimeError(f"hook '{name}' has changed the type of value (was {_full_type(gradient)} got {_full_type(returned)})")
    return returned


def _full_type(tensor: Any) -> str:
    return f"torch.{tensor.dtype.tensor_type}"


def _capture(task: _Task, node: Node, grads: list[Any]) -> None:
    for nr, gradient in enumerate(grads):
        for place in task.wanted.get((node, nr), ()):
            task.captured[place] = gradient


def _results(task: _Task, inputs: tuple[Any, ...] | None, accumulating: bool, allow_unused: bool) -> tuple[Any, ...]:
    if inputs is None or accumulating:
        return ()
    found = tuple([task.captured.get(i) for i in range(len(inputs))])
    for place, gradient in enumerate(found):
        if gradient is None and not allow_unused:
            raise error("unused_input", place=place)
    return found


# --- accumulation ----------------------------------------------------------------------------------------------------------


def accumulate(leaf: Any, gradient: Any, create_graph: bool) -> None:
    """``leaf.grad`` plus the gradient: taken over or cloned the first time; added in place, or out of place under create_graph."""
    held = leaf._grad
    if held is None:
        leaf._grad = _first(leaf, gradient, create_graph)
    elif create_graph:
        leaf._grad = TABLE["add"].public(held, gradient)
    else:  # the mode is no_grad here
        _add_into(held, gradient)


def _first(leaf: Any, gradient: Any, create_graph: bool) -> Any:
    """torch takes a gradient over where nobody else holds it and it is laid out like the leaf; otherwise it makes its own copy."""
    dense = is_dense(leaf._data)
    if not create_graph and sys.getrefcount(gradient) <= _PLAIN_REFERENCES and _laid_out_like(gradient._data, leaf._data, dense):
        taken = Tensor.__new__(gradient.__class__)
        taken._data, taken._storage, taken._exact = gradient._data, gradient._storage, gradient._exact
        taken._inference = gradient._inference
        return taken
    if not dense:
        return TABLE["_contiguous_clone"].public(gradient)
    laid = Tensor.__new__(gradient.__class__)
    laid._data, laid._exact, laid._inference = np.empty_like(leaf._data, dtype=gradient._data.dtype), gradient._exact, MODE.inference
    return TABLE["copy"].inplace_public(laid, gradient)


def _laid_out_like(a: Any, b: Any, dense: bool) -> bool:
    """Same strides where more than one element stands (for a dim of one element, a stride of 0 tells a view that others may share);
    contiguous, for a leaf that overlaps itself.
    """
    if not dense:
        return bool(a.flags.c_contiguous)
    if a.strides == b.strides and 0 not in a.strides:
        return True
    return all(x == y if n != 1 else x != 0 for x, y, n in zip(a.strides, b.strides, a.shape, strict=True))


__all__ = ["backward", "grad"]
