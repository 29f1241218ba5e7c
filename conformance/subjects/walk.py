"""One walk over a program's statements, for any engine with torch's API.

``walk(program, engine)`` runs the statements one by one and looks after each that says so. An engine (``Engine``) tells what differs
between libraries: how to make a tensor from bits, how to read its bits, what its storage's identity is.

The harness hooks every tensor that requires grad, on each of its *slots*: a slot is one gradient edge of a name (its grad_fn and output
number), numbered from 0; an in-place write that changes the history makes the next. A hook set before a write gets the gradient of the
value before the write. The harness reads ``grad_fn`` before it registers (hooking a stale view otherwise crashes or loses the hook), copies
what arrives at once (keeping it would change who owns the gradient), and registers before the program can, so that it sees what arrives
before the program's own hooks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from conformance.observation import ABSENT, Arrival, Observation, Raised, TensorState
from conformance.program import Dots, DType, Literal, Program, Ref, Slice, Statement


class Engine(Protocol):
    """What the walk needs to know of a library beyond torch's API."""

    @property
    def name(self) -> str: ...

    @property
    def module(self) -> Any: ...

    def literal(self, literal: Literal, requires_grad: bool) -> Any: ...

    def bits(self, tensor: Any) -> np.ndarray: ...

    def storage(self, tensor: Any) -> int: ...

    def dtype(self, name: str) -> Any: ...

    def layout(self, tensor: Any) -> tuple[str, tuple[int, ...], tuple[int, ...], int]: ...  # dtype's name, shape, strides, offset

    def facts(self, tensor: Any) -> tuple[Any, ...]: ...  # as ``shown``

    def function(self, op: str) -> Callable[..., Any]: ...

    def synchronize(self) -> None: ...

    def lay_out(self, tensor: Any, strides: tuple[int, ...]) -> None: ...  # asked of an engine that follows another only


#: how torch says that it has no derivative: no error, but a thing it cannot do
NO_DERIVATIVE = re.compile(r"^derivative for .* is not implemented|^the derivative for .* is not implemented|is not differentiable twice")


#: a named tuple's own constructor costs as much again, and there is one per tensor and statement
_NEW = tuple.__new__
_NEVER_SEEN: tuple[Any, int, int] = (None, 0, 0)


def shown(t: Any) -> tuple[Any, ...]:
    """What a tensor shows through torch's API: requires_grad, is_leaf, grad_fn's class, output_nr, retains_grad, is_inference, version.

    The version is 0 for inference tensors, which do not track it.
    """
    inference = t.is_inference()
    version = 0 if inference else t._version
    try:
        node = t.grad_fn
        return (t.requires_grad, t.is_leaf, "" if node is None else type(node).__name__, t.output_nr, t.retains_grad, inference, version)
    except RuntimeError as error:  # a view that torch forbids to be used any more
        return ("raises", "raises", str(error)[:40], "raises", "raises", inference, version)


class Unbound(Exception):
    """A statement reads a name that an earlier statement failed to bind."""


@dataclass(slots=True)
class _Handle:
    """A hook of the program: its handle, and what the harness must know to wrap it."""

    handle: Any

    def remove(self) -> None:
        self.handle.remove()


@dataclass(slots=True)
class Walk:
    """A walk in progress.

    ``names``: what is bound. ``slots``: per name the current slot. ``wrote``: a hook of the program wrote in place.
    """

    engine: Engine
    program: Program
    names: dict[str, Any] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)
    seen_versions: dict[str, Any] = field(default_factory=dict)
    identities: dict[str, tuple[Any, int, int]] = field(default_factory=dict)
    last_bits: dict[str, tuple[Any, bytes]] = field(default_factory=dict)
    blocks: list[Any] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    pending: dict[tuple[str, int], Arrival] = field(default_factory=dict)
    create_graph: bool = False
    index: int = 0
    last_value: Any = None
    follow: Any = None  # the observations to take values from (the reference follows the subject)
    tensor_type: Any = None

    def run(self) -> list[Observation]:
        self.tensor_type = self.engine.module.Tensor
        observations = []
        try:
            for index, statement in enumerate(self.program.statements):
                observations.append(self.step(index, statement))
        finally:
            while self.blocks:
                self.blocks.pop().__exit__(None, None, None)
            self.release()
        return observations

    def release(self) -> None:
        """Breaks the cycles that a program leaves: a gradient with a graph holds its leaf, a hook holds this walk. Python's collector does
        not see into an engine's graph, so a run would grow by every such program.
        """
        for tensor in self.names.values():
            if tensor.__class__ is self.tensor_type and not tensor.is_inference():
                tensor.grad = None
        for table in (self.names, self.nodes, self.identities, self.last_bits, self.pending):
            table.clear()
        self.last_value = None

    def step(self, index: int, statement: Statement) -> Observation:
        observation = Observation(index)
        self.index = index
        self.arrivals = observation.arrivals
        try:
            DO[statement.kind](self, statement)
            self.engine.synchronize()
        except NotImplementedError as error:
            observation.unsupported = str(error) or "NotImplementedError"
        except Unbound:
            observation.raised = Raised("Unbound", "")
        except RuntimeError as error:
            if NO_DERIVATIVE.search(str(error)):
                observation.unsupported = str(error)
            else:
                observation.raised = Raised(type(error).__name__, str(error))
        except Exception as error:  # whatever a subject raises is an observation
            observation.raised = Raised(type(error).__name__, str(error))
        self.pending.clear()
        if self.program.hooked:
            self.hook_new_slots()
            observation.slots = dict(self.slots)
            observation.same = dict(self.same)
        if self.follow is not None:
            self.take_values(self.follow[index], statement)
        if statement.observe:
            self.look(observation)
        return observation

    # --- hooks ----------------------------------------------------------------------------------------------------------

    def hook_new_slots(self) -> None:
        """Hooks every tensor that requires grad and whose gradient edge is new."""
        first: dict[int, str] = {}
        for name, tensor in self.names.items():
            if tensor.__class__ is not self.tensor_type:
                continue
            if first.setdefault(id(tensor), name) != name:  # an op may return its input: two names, one tensor, one hook
                self.same[name] = first[id(tensor)]
                continue
            if name in self.same or not tensor.requires_grad or tensor.is_inference():
                continue
            version = tensor._version
            if name in self.slots and self.seen_versions.get(name) == version:
                continue
            self.seen_versions[name] = version
            try:
                node = tensor.grad_fn
            except RuntimeError:
                continue  # a view that torch forbids to be used any more has no node to hook
            if name in self.slots and node is self.nodes.get(name):
                continue
            self.nodes[name] = node
            slot = self.slots[name] = self.slots.get(name, -1) + 1
            tensor.register_hook(self.recorder(name, slot, 1, None))

    def recorder(self, name: str, slot: int, order: int, of: tuple[int, int] | None) -> Callable[[Any], None]:
        def record(grad: Any) -> None:
            if grad is None:  # torch calls hooks of a tensor that got no gradient, too
                return
            place = (self.index, len(self.arrivals))
            value = self.engine.bits(grad)
            # (grad_fn is read before hooking, see above; what is a leaf or has a name was given, and is hooked as such)
            deeper = bool(
                self.create_graph and grad.requires_grad and grad.grad_fn is not None and all(grad is not t for t in self.names.values())
            )
            arrival = Arrival(name, slot, value, value, order, of, deeper)
            self.arrivals.append(arrival)
            if order == 1:
                self.pending[name, slot] = arrival
            if deeper:
                grad.register_hook(self.recorder(name, slot, order + 1, place))

        return record

    # --- looking --------------------------------------------------------------------------------------------------------

    def look(self, observation: Observation) -> None:
        states: dict[str, TensorState] = {}
        live = self.live()
        by_id = {id(t): n for n, t in reversed(live)}
        storages: dict[int, str] = {}
        for name, tensor in live:
            states[name] = self.state(name, tensor, storages, by_id)
            if self.follow is None:
                self.read(name, tensor, observation)
        observation.states = states
        for gone in self.last_bits.keys() - states.keys():
            del self.last_bits[gone]

    def live(self) -> list[tuple[str, Any]]:
        """Named tensors and their ``.grad``, in the order of binding."""
        live = []
        for name, tensor in self.names.items():
            if tensor.__class__ is not self.tensor_type:
                continue
            live.append((name, tensor))
            try:
                shows = tensor.is_leaf or tensor.retains_grad
            except RuntimeError:
                continue
            grad = tensor.grad if shows else None
            if grad is not None:
                live.append((name + ".grad", grad))
        return live

    def state(self, name: str, t: Any, storages: dict[int, str], by_id: dict[int, str]) -> TensorState:
        engine = self.engine
        alias = storages.setdefault(engine.storage(t), name)
        base = t._base
        if base is not None:
            base = by_id.get(id(base), "unnamed")
        facts = engine.facts(t)
        inference, version = facts[5], facts[6]
        held, count, first = self.identities.get(name, _NEVER_SEEN)
        if held is not t:
            count, first = count + 1, version
            self.identities[name] = (t, count, first)
        since = ABSENT if inference else version - first
        return _NEW(TensorState, (*engine.layout(t), alias, base, *facts[:6], since, count))

    def read(self, name: str, tensor: Any, observation: Observation) -> None:
        bits = self.engine.bits(tensor)
        raw = bits.tobytes()
        last = self.last_bits.get(name)
        if last is None or last[1] != raw or last[0] != (bits.shape, bits.dtype):
            self.last_bits[name] = ((bits.shape, bits.dtype), raw)
            observation.values[name] = bits

    def take_values(self, other: Observation, statement: Statement) -> None:
        """Overwrites this engine's bits by another's, so that a rounding there is no difference here.

        What ``grad`` returned takes over the memory order, too: it tells how the gradient was computed, and the next op's result inherits
        it.
        """
        if statement.kind == "grad" and other.states is not None:
            for name in statement.out:
                if name in self.names and name in other.states:
                    self.engine.lay_out(self.names[name], other.states[name].strides)
        for name, bits in other.values.items():
            tensor = self.names.get(name) if not name.endswith(".grad") else getattr(self.names.get(name[:-5]), "grad", None)
            if tensor is not None and tensor._data.shape == bits.shape and tensor._data.dtype == bits.dtype:
                tensor._data[...] = bits

    # --- arguments --------------------------------------------------------------------------------------------------------

    def resolve(self, atom: Any) -> Any:
        kind = atom.__class__
        if kind is Ref:
            try:
                return self.names[atom.name]
            except KeyError:
                raise Unbound(atom.name) from None
        if kind is tuple:
            return tuple([self.resolve(item) for item in atom])
        if kind is DType:
            return self.engine.dtype(atom.name)
        if kind is Slice:
            return slice(atom.start, atom.stop, atom.step)
        if kind is Dots:
            return ...
        if kind is Literal:
            return self.engine.literal(atom, False)
        return atom

    def arguments(self, statement: Statement) -> tuple[list[Any], dict[str, Any]]:
        args = [self.resolve(a) for a in statement.args]
        return args, {k: self.resolve(v) for k, v in statement.kwargs}

    def bind(self, statement: Statement, value: Any) -> None:
        """Binds the outs as Python would. Only tensors are bound: reading a name that got None or a tuple counts as unbound."""
        out = statement.out
        self.last_value = value
        items = value if isinstance(value, (tuple, list)) and (len(out) != 1 or statement.kind == "grad") else (value,)
        if len(items) != len(out):
            few = "not enough values" if len(items) < len(out) else "too many values"
            raise ValueError(f"{few} to unpack (expected {len(out)}, got {len(items)})")
        for name, item in zip(out, items, strict=True):
            if item.__class__ is self.tensor_type:
                self.names[name] = item


# --- what each kind does ----------------------------------------------------------------------------------------------------


def _tensor(walk: Walk, s: Statement) -> None:
    walk.bind(s, walk.engine.literal(s.args[0], bool(s.keyword("requires_grad", False))))


def _call(walk: Walk, s: Statement) -> None:
    args, kwargs = walk.arguments(s)
    walk.bind(s, walk.engine.function(s.op)(*args, **kwargs))


def _method(walk: Walk, s: Statement) -> None:
    (target, *args), kwargs = walk.arguments(s)
    walk.bind(s, getattr(target, s.op)(*args, **kwargs))


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b, "pow": lambda a, b: a**b,
    "floor_divide": lambda a, b: a // b, "remainder": lambda a, b: a % b, "matmul": lambda a, b: a @ b, "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b, "bitwise_xor": lambda a, b: a ^ b, "bitwise_left_shift": lambda a, b: a << b,
    "bitwise_right_shift": lambda a, b: a >> b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip
_UNARY: dict[str, Callable[[Any], Any]] = {"neg": lambda a: -a, "bitwise_not": lambda a: ~a, "abs": abs}
#: ops that have an operator form
OPERATORS = (*_BINARY, *_UNARY)


def _operator(walk: Walk, s: Statement) -> None:
    args, _ = walk.arguments(s)
    walk.bind(s, _UNARY[s.op](*args) if len(args) == 1 else _BINARY[s.op](*args))


def _inplace(walk: Walk, s: Statement) -> None:
    (target, *args), kwargs = walk.arguments(s)
    getattr(target, s.op + "_")(*args, **kwargs)


_DUNDERS = {
    "add": "__iadd__", "sub": "__isub__", "mul": "__imul__", "div": "__itruediv__", "pow": "__ipow__", "floor_divide": "__ifloordiv__",
    "remainder": "__imod__", "bitwise_and": "__iand__", "bitwise_or": "__ior__", "bitwise_xor": "__ixor__",
    "bitwise_left_shift": "__ilshift__", "bitwise_right_shift": "__irshift__",
}  # fmt: skip


def _augmented(walk: Walk, s: Statement) -> None:
    (target, other), _ = walk.arguments(s)
    getattr(target, _DUNDERS[s.op])(other)


def _getitem(walk: Walk, s: Statement) -> None:
    (target, index), _ = walk.arguments(s)
    walk.bind(s, target[index])


def _setitem(walk: Walk, s: Statement) -> None:
    (target, index, value), _ = walk.arguments(s)
    target[index] = value


def _backward(walk: Walk, s: Statement) -> None:
    (target,), kwargs = walk.arguments(s)
    if "inputs" in kwargs:
        kwargs["inputs"] = list(kwargs["inputs"])
    walk.create_graph = bool(kwargs.get("create_graph"))
    target.backward(**kwargs)


def _grad(walk: Walk, s: Statement) -> None:
    args, kwargs = walk.arguments(s)
    walk.create_graph = bool(kwargs.get("create_graph"))
    walk.bind(s, walk.engine.module.autograd.grad(*args, **kwargs))


def _read_grad(walk: Walk, s: Statement) -> None:
    walk.bind(s, walk.resolve(s.args[0]).grad)


def _detach(walk: Walk, s: Statement) -> None:
    walk.bind(s, walk.resolve(s.args[0]).detach())


_ACTIONS: dict[str, Callable[[Any], Any]] = {
    "observe": lambda grad: None,
    "double": lambda grad: grad * 2,
    "zero": lambda grad: grad * 0,
    "inplace": lambda grad: (grad.mul_(2), None)[1],
}


def _hook(walk: Walk, s: Statement) -> None:
    action = _ACTIONS[s.op]
    name = walk.same.get(s.args[0].name, s.args[0].name)
    slot = walk.slots.get(name, -1)

    def wrapped(grad: Any) -> Any:
        result = action(grad)
        arrival = walk.pending.get((name, slot))
        if arrival is not None and grad is not None:
            flowed = grad if result is None else result
            arrival.flowed = walk.engine.bits(flowed)
        return result

    walk.names[s.out[0]] = _Handle(walk.resolve(s.args[0]).register_hook(wrapped))


def _remove_hook(walk: Walk, s: Statement) -> None:
    walk.resolve(s.args[0]).remove()


def _retain_grad(walk: Walk, s: Statement) -> None:
    walk.resolve(s.args[0]).retain_grad()


def _requires_grad(walk: Walk, s: Statement) -> None:
    walk.resolve(s.args[0]).requires_grad_(s.args[1])


def _clear_grad(walk: Walk, s: Statement) -> None:
    target = walk.resolve(s.args[0])
    if s.op == "none":
        target.grad = None
    else:
        target.grad.zero_()


def _enter(walk: Walk, s: Statement) -> None:
    block = getattr(walk.engine.module, s.op)(*s.args)
    block.__enter__()
    walk.blocks.append(block)


def _exit(walk: Walk, s: Statement) -> None:
    if walk.blocks:
        walk.blocks.pop().__exit__(None, None, None)


def _optimizer(walk: Walk, s: Statement) -> None:
    args, kwargs = walk.arguments(s)
    walk.names[s.out[0]] = getattr(walk.engine.module.optim, s.op)(list(args[0]), **kwargs)


def _step(walk: Walk, s: Statement) -> None:
    walk.resolve(s.args[0]).step()


def _zero_grad(walk: Walk, s: Statement) -> None:
    (optimizer,), kwargs = walk.arguments(s)
    optimizer.zero_grad(**kwargs)


def _delete(walk: Walk, s: Statement) -> None:
    name = s.args[0].name
    walk.resolve(s.args[0])
    for table in (walk.names, walk.identities, walk.last_bits, walk.nodes):
        table.pop(name, None)
    walk.identities.pop(name + ".grad", None)


#: kind of statement -> what it does
DO: dict[str, Callable[[Walk, Statement], None]] = {
    "tensor": _tensor, "call": _call, "method": _method, "operator": _operator, "inplace": _inplace, "augmented": _augmented,
    "getitem": _getitem, "setitem": _setitem, "backward": _backward, "grad": _grad, "read_grad": _read_grad, "detach": _detach,
    "hook": _hook, "remove_hook": _remove_hook, "retain_grad": _retain_grad, "requires_grad_": _requires_grad, "clear_grad": _clear_grad,
    "enter": _enter, "exit": _exit, "optimizer": _optimizer, "step": _step, "zero_grad": _zero_grad, "delete": _delete,
}  # fmt: skip


def walk(program: Program, engine: Engine, follow: list[Observation] | None = None) -> list[Observation]:
    """Runs the program on the engine. ``follow``: another run's observations, whose values this engine takes over after each statement."""
    return Walk(engine, program, follow=follow).run()
