"""Statements evaluated exactly: the same program text on refgrad's balls, one statement at a time, from the subject's own inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.observation import TensorState
from conformance.program import Dots, DType, Literal, Ref, Slice, Statement
from conformance.subjects.walk import _BINARY, _UNARY
from refgrad._dtypes import BY_NAME, FLOAT
from refgrad._engine import run
from refgrad._exact import ball
from refgrad._table import TABLE
from refgrad._tensor import Tensor

Slot = tuple[Any, ...]  # (name, number), or ("@", statement, place) for a gradient that arrived


@dataclass(slots=True)
class Node:
    """A function of balls with its graph: what flows at ``outs`` gives contributions to ``leaves``.

    ``statement`` and ``op`` say whom to blame.
    """

    statement: int
    op: str
    leaves: list[tuple[Slot, Any]]
    outs: list[tuple[Slot, Any]]
    rebuilt: bool = False  # a view whose node was rebuilt: its out is what its leaf is
    itself: str = ""  # its own op, where what flowed at its out was not judged and ``op`` is what made that

    @property
    def elementwise(self) -> bool:
        """Whether each element of an out stands for the one of a leaf (as far as shapes tell)."""
        return all(out._data.shape == leaf._data.shape for _, out in self.outs for _, leaf in self.leaves)

    def pull(self, flows: list[Any], create_graph: bool) -> list[tuple[Slot, Any]]:
        """The contributions to the leaves, given a ball (or None) per out."""
        used = [(out, flow) for (_, out), flow in zip(self.outs, flows, strict=True) if flow is not None and out._rg]
        if not used:
            return []
        outs, grads = tuple(u[0] for u in used), tuple(u[1] for u in used)
        inputs = tuple(leaf for _, leaf in self.leaves)
        found = run(outs, grads, True, create_graph, inputs, accumulate=False, allow_unused=True)
        reduces = not self.elementwise
        return [(slot, _unless_nan(g, leaf, reduces)) for (slot, leaf), g in zip(self.leaves, found, strict=True) if g is not None]


def _unless_nan(gradient: Any, leaf: Any, reduces: bool) -> Any:
    """Where an operand is NaN there is no derivative to be right about: an infinite radius makes the element (all of them, where elements
    are reduced) inconclusive.
    """
    where: Any = np.isnan(leaf._data)
    if reduces and where.any():
        where = np.ones(where.shape, bool)
    if where.any() and gradient._exact is not None:
        gradient._exact = (gradient._exact[0], np.where(where, np.inf, gradient.radius))
    return gradient


class Scope:
    """Leaves for the names a statement reads: balls of the subject's bits, requiring grad where the name has a slot.

    Each use has a leaf of its own: what the uses send back is added up in an order that only the engine knows.
    """

    def __init__(self, values: dict[str, np.ndarray], slots: dict[str, Slot], states: dict[str, TensorState]) -> None:
        self.values, self.slots, self.states = values, slots, states
        self.leaves: list[tuple[str, Any]] = []

    def leaf(self, name: str) -> Any:
        made = ball(self.values[name], requires_grad=self.needs_grad(name))
        self.leaves.append((name, made))
        return made

    def needs_grad(self, name: str) -> bool:
        state = self.states.get(name)
        return state is not None and state.requires_grad is True and name in self.slots

    def used(self) -> list[tuple[Slot, Any]]:
        return [(self.slots[name], leaf) for name, leaf in self.leaves if leaf._rg]

    def resolve(self, atom: Any) -> Any:
        kind = atom.__class__
        if kind is Ref:
            return self.leaf(atom.name)
        if kind is tuple:
            return tuple([self.resolve(item) for item in atom])
        if kind is DType:
            return BY_NAME[atom.name]
        if kind is Slice:
            return slice(atom.start, atom.stop, atom.step)
        if kind is Dots:
            return ...
        if kind is Literal:
            return ball(literal_array(atom))
        return atom


def literal_array(literal: Literal) -> np.ndarray:
    from refgrad._storage import from_memory

    memory = np.frombuffer(literal.data, BY_NAME[literal.dtype].np)
    return from_memory(memory, literal.shape, literal.strides, literal.offset)


def evaluate(statement: Statement, scope: Scope) -> Any:
    """The exact result of an op statement: a ball, a plain tensor, or a tuple of them."""
    s = statement
    if s.kind == "getitem":
        return scope.resolve(s.args[0])[_index(s.args[1], scope)]
    args = [scope.resolve(a) for a in s.args]
    if s.kind == "operator" or s.kind == "augmented":
        return _UNARY[s.op](*args) if len(args) == 1 else _BINARY[s.op](*args)
    function: Callable[..., Any] = TABLE[s.op].public
    if s.kind == "method" and (method := getattr(Tensor, s.op, None)) is not None:
        function = method
    return function(*args, **{k: scope.resolve(v) for k, v in s.kwargs})


def _index(atom: Any, scope: Scope) -> Any:
    return scope.resolve(atom)


def as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)


# --- places in memory --------------------------------------------------------------------------------------------------------


def locations(state: TensorState) -> np.ndarray:
    """For every element of a tensor in this state its place in the storage, in elements. Shape: the tensor's."""
    places: Any = np.int64(state.offset)
    ndim = len(state.shape)
    for axis, (stride, size) in enumerate(zip(state.strides, state.shape, strict=True)):
        places = places + (np.arange(size, dtype=np.int64) * stride).reshape([size if a == axis else 1 for a in range(ndim)])
    return np.broadcast_to(places, state.shape)


def positions(region: np.ndarray, base: np.ndarray) -> np.ndarray | None:
    """Where in the base's elements (flat, in index order) the region's places are; None where the base lacks one or overlaps itself."""
    flat = base.reshape(-1)
    if flat.size == 0:
        return np.zeros(region.shape, np.int64) if region.size == 0 else None
    inverse = np.full(int(flat.max()) + 1, -1, np.int64)
    inverse[flat] = np.arange(flat.size)
    if (inverse[flat] != np.arange(flat.size)).any() or (region.size and int(region.max()) >= inverse.size):
        return None
    found = inverse[region]
    return None if (found < 0).any() else found


def after_write(old: np.ndarray, place: np.ndarray, written: np.ndarray, written_place: np.ndarray) -> np.ndarray:
    """What an alias must show after ``written`` was put at ``written_place`` of the memory it shares."""
    size = int(max(place.max(initial=-1), written_place.max(initial=-1))) + 1
    memory = np.zeros(size, old.dtype)
    touched = np.zeros(size, bool)
    memory[written_place.reshape(-1)] = written.reshape(-1)
    touched[written_place.reshape(-1)] = True
    return np.where(touched[place], memory[place], old)


def is_float(name: str) -> bool:
    return BY_NAME[name].category == FLOAT
