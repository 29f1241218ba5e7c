"""Drawing programs.

The generator runs the reference as it draws, so it knows every shape and dtype; illegal statements are drawn on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

import numpy as np

from conformance.generate.providers import FromHypothesis, Provider, Stream
from conformance.generate.values import (
    LAYOUT_CUMULATIVE,
    LAYOUTS,
    PITFALL,
    RECIPE_CUMULATIVE,
    RECIPES,
    SHAPE_CUMULATIVE,
    SHAPES,
    SIZES,
    literal,
)
from conformance.opinfo import FLOATS, Info, info
from conformance.program import DOTS, Literal, Program, Ref, Slice, Statement
from conformance.subjects.reference import Reference
from conformance.subjects.walk import OPERATORS, Walk
from refgrad._dtypes import BY_NAME, FLOAT
from refgrad._grad_mode import is_grad_enabled
from refgrad._table import TABLE
from refgrad._tensor import Tensor

DTYPES: Final = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "bool", "int8", "uint8", "int16")
DTYPE_CUMULATIVE: Final = (44, 66, 75, 84, 88, 91, 94, 96, 98, 100)


class _Dropped(Exception):
    """The reference lacks what was drawn: the statement is left out."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What to draw: op patterns with weights, dtypes; the defaults are everything."""

    ops: tuple[tuple[str, float], ...] = ()
    dtypes: tuple[str, ...] = ()
    actions: tuple[tuple[str, float], ...] = ()  # kinds of statement drawn more (or less) often: name in ACTIONS, factor
    min_statements: int = 5
    max_statements: int = 16


@lru_cache(maxsize=64)
def drawn_ops(mix: Mix) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names this mix draws, and their cumulative weights."""
    names, weights = [], []
    for name, entry in TABLE.items():
        record = info(name)
        if name.startswith("_") or not record.drawn or not (entry.tensors or record.draw) or not (entry.function or entry.method):
            continue
        share = [w for pattern, w in mix.ops if fnmatchcase(name, pattern)] if mix.ops else [1.0]
        if share and max(share) > 0:
            names.append(name)
            weights.append(max(int(record.weight * max(share)), 1))
    return tuple(names), tuple(int(x) for x in np.cumsum(weights))


@dataclass(slots=True)
class Drawer:
    """A program being drawn. ``p`` gives the draws; the reference's walk knows what is bound."""

    p: Provider
    mix: Mix
    walk: Walk
    statements: list[Statement] = field(default_factory=list)
    count: int = 0
    pitfalls: set[str] = field(default_factory=set)
    handles: list[str] = field(default_factory=list)
    optimizers: list[str] = field(default_factory=list)
    depth: int = 0
    big: bool = False

    # --- statements -------------------------------------------------------------------------------------------------------

    def name(self, prefix: str = "t") -> str:
        self.count += 1
        return f"{prefix}{self.count - 1}"

    def add(self, statement: Statement) -> Any:
        """Runs the statement on the reference and keeps it. Returns what was raised, or None."""
        observation = self.walk.step(len(self.statements), statement)
        if observation.unsupported:
            raise _Dropped(observation.unsupported)
        self.statements.append(statement)
        return observation.raised

    def add_op(self, kind: str, op: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """An op statement; its outs are named once it is known how many there are."""
        trial = Statement(kind, op, tuple(args), tuple(kwargs.items()), ("_",), observe=False)
        self.walk.last_value = None
        observation = self.walk.step(len(self.statements), trial)
        value = self.walk.last_value
        self.walk.names.pop("_", None)
        if observation.unsupported:
            raise _Dropped(observation.unsupported)
        items = value if isinstance(value, (tuple, list)) else (value,)
        if isinstance(value, (tuple, list)) and len(items) == 1:
            raise _Dropped("one output in a tuple")
        outs = tuple(self.name() for item in items if isinstance(item, Tensor))
        if observation.raised is None and len(outs) != len(items):
            raise _Dropped("an output that is no tensor")
        for name, item in zip(outs, items, strict=False):
            self.walk.names[name] = item
        self.statements.append(Statement(kind, op, tuple(args), tuple(kwargs.items()), outs or (self.name(),), observe=False))

    # --- tensors ----------------------------------------------------------------------------------------------------------

    def tensors(self) -> list[tuple[str, Tensor]]:
        return [(n, t) for n, t in self.walk.names.items() if t.__class__ is Tensor]

    def usable(self, dtypes: tuple[str, ...], ranks: tuple[int, int], nonempty: bool = False, below: int = 5000) -> list[str]:
        found = []
        for n, t in self.walk.names.items():
            if t.__class__ is Tensor and ranks[0] <= t._data.ndim <= ranks[1] and t.dtype.name in dtypes and t._data.size < below:
                if nonempty and t._data.size == 0:
                    continue
                found.append(n)
        return found

    def literal(self, dtype: str, shape: tuple[int, ...], recipe: str = "", layout: str = "", requires_grad: bool | None = None) -> Ref:
        """A new tensor statement."""
        recipe = recipe or self.p.draw_weighted(RECIPE_CUMULATIVE, RECIPES)
        layout = layout or self.p.draw_weighted(LAYOUT_CUMULATIVE, LAYOUTS)
        if BY_NAME[dtype].category != FLOAT:
            requires_grad = False
        elif requires_grad is None:
            requires_grad = self.p.draw_chance(80)
        if recipe in PITFALL:
            self.pitfalls.add(PITFALL[recipe])
        if layout != "contiguous":
            self.pitfalls.add("layout")
        if 0 in shape or shape in ((), (1,)):
            self.pitfalls.add("empty and tiny")
        name = self.name()
        kwargs = (("requires_grad", True),) if requires_grad else ()
        made = Statement("tensor", "", (literal(self.p, dtype, shape, recipe, layout),), kwargs, (name,), observe=False)
        if self.add(made) is not None:
            raise _Dropped("the tensor was refused")
        return Ref(name)

    def shape(self, ranks: tuple[int, int] = (0, 9), small: bool = False) -> tuple[int, ...]:
        if self.big and not small and ranks[0] <= 1 <= ranks[1] and self.p.draw_chance(40):
            self.pitfalls.add("size")
            return (self.p.draw_choice(SIZES),)
        shape = self.p.draw_weighted(SHAPE_CUMULATIVE, SHAPES)
        if len(shape) < ranks[0]:
            shape = (2, 3, 2, 2)[: ranks[0] - len(shape)] + shape
        return shape[: ranks[1]]

    def dtype(self, allowed: tuple[str, ...]) -> str:
        if self.mix.dtypes:
            both = [d for d in self.mix.dtypes if d in allowed]
            return self.p.draw_choice(both) if both else allowed[0]
        drawn = self.p.draw_weighted(DTYPE_CUMULATIVE, DTYPES)
        return drawn if drawn in allowed else self.p.draw_choice(allowed[:2])

    def dtype_of_any(self, allowed: tuple[str, ...]) -> str:
        """One of these, each as likely, or of those that the mix draws among them."""
        return self.p.draw_choice(tuple(d for d in self.mix.dtypes if d in allowed) or allowed)

    # what records ask for ------------------------------------------------------------------------------------------------

    def operand(
        self, op: str, recipe: str = "", dtypes: tuple[str, ...] = (), ranks: tuple[int, int] = (0, 9), nonempty: bool = False,
        fresh: bool = False, layout: str = "",
    ) -> Ref:  # fmt: skip
        """A tensor for this op: one that is bound, or a new one."""
        record = info(op)
        dtypes = dtypes or record.dtypes
        recipe = recipe or record.recipe
        if ranks == (0, 9):
            ranks = record.ranks
        if not fresh and self.p.draw_chance(45 if recipe else 75):
            names = self.usable(dtypes, ranks, nonempty, 64 if record.short else 5000)
            if names:
                return Ref(self.p.draw_choice(names[-6:]))
        shape = self.shape(ranks, record.short)
        if nonempty and 0 in shape:
            shape = tuple(n or 2 for n in shape)
        return self.literal(self.dtype(dtypes), shape, recipe if self.p.draw_chance(85) else "", layout)

    def fresh(self, dtype: str, shape: tuple[int, ...], recipe: str = "") -> Ref:
        return self.literal(dtype, shape, recipe)

    def like(self, x: Ref, recipe: str = "", plain: bool = False) -> Ref:
        """A tensor of the same dtype and shape: bound or new."""
        tensor = self.walk.names[x.name]
        if not recipe and self.p.draw_chance(35):
            names = [n for n, t in self.tensors() if t._data.shape == tensor._data.shape and t.dtype is tensor.dtype]
            return Ref(self.p.draw_choice(names))
        return self.literal(tensor.dtype.name, tensor._data.shape, recipe, requires_grad=False if plain else None)

    def matching(self, dtype: str, shape: tuple[int, ...]) -> Ref:
        names = [n for n, t in self.tensors() if t._data.shape == shape and t.dtype.name == dtype]
        if names and self.p.draw_chance(50):
            return Ref(self.p.draw_choice(names))
        return self.literal(dtype, shape)

    def two_operands(self, op: str) -> list[Any]:
        """Operands that broadcast: a tensor with a number, itself, or another of any dtype the op takes."""
        x = self.operand(op)
        kind = self.p.draw_integer(0, 9)
        if kind < 2:
            return [x, self.number()]
        if kind == 2:
            self.pitfalls.add("aliasing")
            return [x, x]
        shape = self.walk.names[x.name]._data.shape
        names = [n for n in self.usable(info(op).dtypes, (0, 9)) if _broadcasts(self.walk.names[n]._data.shape, shape)]
        if names and self.p.draw_chance(55):
            return [x, Ref(self.p.draw_choice(names))]
        other = tuple(1 if self.p.draw_chance(25) else n for n in shape)[self.p.draw_choice((0, 0, 0, 1)) :]
        dtype = self.walk.names[x.name].dtype.name if self.p.draw_chance(75) else self.dtype(info(op).dtypes)
        return [x, self.literal(dtype, other)]

    def number(self) -> Any:
        return self.p.draw_choice((2, 0.5, 3, -1, 1, 0, -1.5, 0.1, 2.0, 0.0))

    def ref(self, x: str) -> Ref:
        return Ref(x)

    def is_tensor(self, atom: Any) -> bool:
        return isinstance(atom, Ref)

    def shape_of(self, x: Ref) -> tuple[int, ...]:
        return tuple(self.walk.names[x.name]._data.shape)

    def size(self, x: Ref, dim: int) -> int:
        """The size of a dim; 1 for one that was drawn out of range."""
        shape = self.shape_of(x)
        return shape[dim] if -len(shape) <= dim < len(shape) else 1

    def rank(self, x: Ref) -> int:
        return int(self.walk.names[x.name]._data.ndim)

    def numel(self, x: Ref) -> int:
        return int(self.walk.names[x.name]._data.size)

    def dtype_of(self, x: Ref) -> str:
        return str(self.walk.names[x.name].dtype.name)

    def is_contiguous(self, x: Ref) -> bool:
        return bool(self.walk.names[x.name]._data.flags.c_contiguous)

    def dim(self, x: Ref) -> int:
        rank = max(self.rank(x), 1)
        if self.p.draw_chance(2):
            self.pitfalls.add("arguments")
            return rank + 1
        return self.p.draw_integer(-rank, rank - 1) if self.p.draw_chance(40) else self.p.draw_integer(0, rank - 1)

    def dims(self, x: Ref) -> tuple[int, ...]:
        rank = self.rank(x)
        kept = tuple(d for d in range(rank) if self.p.draw_chance(60))
        return tuple(d - rank if self.p.draw_chance(20) else d for d in kept)

    def permutation(self, rank: int) -> tuple[int, ...]:
        left, out = list(range(rank)), []
        while left:
            out.append(left.pop(self.p.draw_integer(0, len(left) - 1)))
        return tuple(out)

    def factorization(self, count: int) -> tuple[int, ...]:
        options: list[tuple[int, ...]] = [(count,), (-1,), (1, count), (count, 1)]
        options += [(f, count // f) for f in (2, 3, 4) if count and count % f == 0] + [(2, -1)] * (count % 2 == 0 and count > 0)
        if self.p.draw_chance(3):
            return (count + 1,)
        return self.p.draw_choice(options)

    def indices(self, shape: tuple[int, ...], size: int) -> Ref:
        """int64 indices below ``size``, repeated ones included; now and then one is out of range."""
        self.pitfalls.add("indices")
        data = np.array(
            [self.p.draw_integer(0, max(size - 1, 0)) for _ in range(int(np.prod(shape)))]
            if np.prod(shape) < 40
            else [0] * int(np.prod(shape))
        )
        if data.size and self.p.draw_chance(2):
            data[0] = size + 1
        return self._index_tensor(data.astype(np.int64).reshape(shape))

    def distinct_indices(self, shape: tuple[int, ...], dim: int) -> Ref:
        """int64 indices that are a permutation along ``dim``: a write through them has one result."""
        self.pitfalls.add("indices")
        order = np.array(self.permutation(shape[dim]) if shape[dim] < 20 else range(shape[dim]), dtype=np.int64)
        return self._index_tensor(np.broadcast_to(order.reshape([-1 if d == dim else 1 for d in range(len(shape))]), shape))

    def _index_tensor(self, data: np.ndarray) -> Ref:
        from conformance.program import contiguous_strides

        name = self.name()
        made = Literal("int64", data.shape, contiguous_strides(data.shape), 0, np.ascontiguousarray(data).tobytes())
        self.add(Statement("tensor", "", (made,), (), (name,), observe=False))
        return Ref(name)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


# --- what a statement may be --------------------------------------------------------------------------------------------------


def _default_arguments(g: Drawer, op: str) -> tuple[list[Any], dict[str, Any]]:
    """From the signature: operands for the tensor parameters, defaults for the rest."""
    entry = TABLE[op]
    if len(entry.tensors) >= 2 and entry.signature.parameters[entry.tensors[1]].default is entry.signature.empty:
        return g.two_operands(op), {}
    return [g.operand(op)], {}


def draw_arguments(g: Drawer, op: str) -> tuple[list[Any], dict[str, Any]]:
    record: Info = info(op)
    return record.draw(g) if record.draw is not None else _default_arguments(g, op)


def _op(g: Drawer) -> None:
    names, cumulative = drawn_ops(g.mix)
    op = g.p.draw_weighted(cumulative, names)
    args, kwargs = draw_arguments(g, op)
    g.add_op(_form(g, op, args, kwargs), op, args, kwargs)


def _form(g: Drawer, op: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """call, method or operator, where torch has the form and the arguments fit it."""
    entry, forms = TABLE[op], list(info(op).forms)
    tensor_first = bool(args) and isinstance(args[0], Ref)
    if not forms:
        forms = (["call"] if entry.function else []) + (["method"] if entry.method and tensor_first else [])
        if op in OPERATORS and not kwargs and 1 <= len(args) <= 2 and any(isinstance(a, Ref) for a in args):
            forms += ["operator"]
    return g.p.draw_choice(forms)


def _inplace(g: Drawer) -> None:
    names, cumulative = drawn_ops(g.mix)
    for _ in range(4):
        op = g.p.draw_weighted(cumulative, names)
        if TABLE[op].inplace_public is not None:
            break
    else:
        op = "mul"
    args, kwargs = draw_arguments(g, op)
    if not isinstance(args[0], Ref):
        raise _Dropped("no tensor to write to")
    args[0] = _writable(g, args[0])
    g.pitfalls.add("in-place")
    kind = "augmented" if op in _AUGMENTED and not kwargs and len(args) == 2 and g.p.draw_chance(30) else "inplace"
    g.add(Statement(kind, op, tuple(args), tuple(kwargs.items()), (), observe=False))


_AUGMENTED = frozenset(("add", "sub", "mul", "div", "pow", "floor_divide", "remainder", "bitwise_and", "bitwise_or", "bitwise_xor"))


def _writable(g: Drawer, x: Ref) -> Ref:
    """``x``, or mostly a result like it where writing to it must raise: a leaf that requires grad, or a view of one, while a graph is
    recorded.
    """
    tensor = g.walk.names[x.name]
    root = tensor if tensor._base is None else tensor._base
    if not (root._rg and root._node is None and is_grad_enabled()) or g.p.draw_chance(15):
        return x
    g.add_op("method", g.p.draw_choice(_LIKE_ITS_INPUT), [x], {})
    made = Ref(f"t{g.count - 1}")
    return made if made.name in g.walk.names else x  # it may have been refused (a stale view)


_LIKE_ITS_INPUT = ("clone", "neg", "exp", "sin", "tanh", "square", "abs", "sigmoid", "relu", "reciprocal")


def _write_op(g: Drawer, target: Ref) -> None:
    """A simple write: fill_, zero_, copy_ or arithmetic."""
    kind = g.p.draw_integer(0, 5)
    if kind == 0:
        g.add(Statement("inplace", "zero", (target,), (), (), observe=False))
    elif kind == 1:
        g.add(Statement("inplace", "fill", (target, g.number()), (), (), observe=False))
    elif kind == 2:
        g.add(Statement("inplace", "copy", (target, g.like(target)), (), (), observe=False))
    else:
        op = g.p.draw_choice(("mul", "add", "sub", "div"))
        operand = g.number() if g.p.draw_chance(50) else g.like(target)
        g.add(Statement("inplace", op, (target, operand), (), (), observe=False))


def _view_write(g: Drawer) -> None:
    """A view, then a write through it or through its base, then perhaps another use."""
    g.pitfalls |= {"aliasing", "in-place"}
    x = _writable(g, g.operand("mul", ranks=(1, 4), nonempty=True, dtypes=FLOATS))
    before = g.count
    op = g.p.draw_choice(("select", "narrow", "transpose", "view", "getitem", "diagonal", "expand", "detach", "unbind", "unsqueeze"))
    if op == "unbind" and g.numel(x) > 64:
        op = "select"  # not thousands of outputs
    if op == "getitem":
        g.add_op("getitem", "", [x, _index(g, x)], {})
    elif op == "detach":
        g.add(Statement("detach", "", (x,), (), (g.name(),), observe=False))
    else:
        args, kwargs = _view_arguments(g, op, x)
        g.add_op("method", op, args, kwargs)
    view = Ref(f"t{g.count - 1}")
    if g.count == before or view.name not in g.walk.names:
        return
    _write_op(g, view if g.p.draw_chance(60) else x)


def _view_arguments(g: Drawer, op: str, x: Ref) -> tuple[list[Any], dict[str, Any]]:
    rank = g.rank(x)
    if op == "select":
        return [x, 0, 0], {}
    if op == "narrow":
        return [x, 0, 0, 1], {}
    if op == "transpose":
        return [x, 0, rank - 1], {}
    if op == "view":
        return [x, (-1,)], {}
    if op == "expand":
        return [x, (2, *g.shape_of(x))], {}
    if op == "diagonal":
        return [x] if rank > 1 else [x, 0], {}
    if op == "unsqueeze":
        return [x, 0], {}
    return [x], {}


def _index(g: Drawer, x: Ref) -> Any:
    """A basic or advanced index."""
    shape = g.shape_of(x)
    kind = g.p.draw_integer(0, 8)
    n = shape[0]
    if kind == 0:
        return g.p.draw_integer(-n, n - 1) if n else 0
    if kind == 1:
        return Slice(g.p.draw_choice((None, 1, -2)), g.p.draw_choice((None, 2, -1)), g.p.draw_choice((None, 2)))
    if kind == 2:
        return (DOTS, g.p.draw_integer(0, max(shape[-1] - 1, 0)))
    if kind == 3:
        return (None, Slice(None, 2, None))
    if kind == 4:
        return Slice(None, None, None)
    if kind == 5:
        return g.distinct_indices((n,), 0)
    if kind == 6:
        return g.fresh("bool", (n,))
    if kind == 7 and len(shape) > 1:
        return (Slice(None, None, None), g.distinct_indices((shape[1],), 0))
    return (0,) if n else Slice(None, None, None)


def _getitem(g: Drawer) -> None:
    x = g.operand("clone", ranks=(1, 4))
    g.add_op("getitem", "", [x, _index(g, x)], {})


def _setitem(g: Drawer) -> None:
    g.pitfalls |= {"in-place", "indices"}
    x = _writable(g, g.operand("clone", ranks=(1, 4), dtypes=FLOATS))
    index = _index(g, x)
    value = g.number() if g.p.draw_chance(50) else g.literal(g.dtype_of(x), ())
    g.add(Statement("setitem", "", (x, index, value), (), (), observe=False))


def _roots(g: Drawer) -> list[str]:
    return [n for n, t in g.tensors() if t._rg and t.dtype.category == FLOAT and (t._node is not None or g.p.draw_chance(5))]


def _backward(g: Drawer) -> None:
    names = _roots(g)
    if not names:
        raise _Dropped("nothing to run backward from")
    _backward_from(g, Ref(g.p.draw_choice(names[-4:])))


def _backward_from(g: Drawer, root: Ref, retain: bool = False) -> None:
    kwargs: dict[str, Any] = {}
    if g.walk.names[root.name]._data.size != 1 and g.p.draw_chance(96):
        if g.p.draw_chance(40):
            g.add_op("method", g.p.draw_choice(_TO_A_NUMBER) if g.numel(root) else "sum", [root], {})
            root = Ref(f"t{g.count - 1}")
        else:
            kwargs["gradient"] = g.like(root, plain=True, recipe="ordinary")
    if retain or g.p.draw_chance(35):
        kwargs["retain_graph"] = True
    if g.p.draw_chance(12):
        kwargs["create_graph"] = True
        g.pitfalls.add("order")
    if g.p.draw_chance(10):
        inputs = [n for n, t in g.tensors() if t._rg]
        kwargs["inputs"] = tuple(Ref(n) for n in inputs[: g.p.draw_integer(1, 2)])
    g.add(Statement("backward", "", (root,), tuple(kwargs.items()), (), observe=False))
    if g.p.draw_chance(25):
        g.pitfalls.add("graph life")
        g.add(Statement("backward", "", (root,), tuple(kwargs.items()), (), observe=False))


_TO_A_NUMBER = ("sum", "sum", "mean", "norm", "prod", "amax", "max", "var")


def _backward_from_ends(g: Drawer) -> None:
    """From results that nothing uses: a gradient is judged only where a backward passes."""
    used = {name for s in g.statements for name in s.refs()}
    ends = [n for n in _roots(g) if n not in used][-3:]
    for n in ends:
        _backward_from(g, Ref(n), retain=n != ends[-1])


def _grad(g: Drawer) -> None:
    """autograd.grad; with create_graph usually followed by a use of what it returned and another backward."""
    names = _roots(g)
    inputs = [n for n, t in g.tensors() if t._rg]
    if not names or not inputs:
        raise _Dropped("nothing to differentiate")
    root = Ref(g.p.draw_choice(names[-4:]))
    source = Ref(g.p.draw_choice(inputs[:4]))
    kwargs: dict[str, Any] = {}
    if g.walk.names[root.name]._data.size != 1:
        kwargs["grad_outputs"] = g.like(root, recipe="ordinary", plain=True)
    second = g.p.draw_chance(65)
    if second:
        kwargs["create_graph"] = True
        g.pitfalls.add("order")
    elif g.p.draw_chance(40):
        kwargs["retain_graph"] = True
    if g.p.draw_chance(15):
        kwargs["allow_unused"] = True
    out = g.name()
    raised = g.add(Statement("grad", "", (root, source), tuple(kwargs.items()), (out,), observe=False))
    got = g.walk.names.get(out)
    if raised is None and second and isinstance(got, Tensor) and got._rg:
        _second_order(g, Ref(out))


def _second_order(g: Drawer, gradient: Ref) -> None:
    g.add_op("operator", "mul", [gradient, gradient if g.p.draw_chance(50) else g.like(gradient, recipe="ordinary")], {})
    product = Ref(f"t{g.count - 1}")
    if g.p.draw_chance(30):
        g.pitfalls.add("order")
        _grad(g)
        return
    g.add_op("method", "sum", [product], {})
    g.add(Statement("backward", "", (Ref(f"t{g.count - 1}"),), (), (), observe=False))


def _hook(g: Drawer) -> None:
    g.pitfalls.add("hooks")
    if g.handles and g.p.draw_chance(45):
        g.add(Statement("remove_hook", "", (Ref(g.handles[-1]),), (), (), observe=False))
        return
    names = [n for n, t in g.tensors() if t._rg]
    if not names:
        raise _Dropped("nothing to hook")
    out = g.name("h")
    action = g.p.draw_choice(("observe", "double", "zero", "inplace", "double"))
    if g.add(Statement("hook", action, (Ref(g.p.draw_choice(names)),), (), (out,), observe=False)) is None:
        g.handles.append(out)
        if g.p.draw_chance(20):
            g.add(Statement("remove_hook", "", (Ref(out),), (), (), observe=False))


def _retain_grad(g: Drawer) -> None:
    names = [n for n, t in g.tensors() if t._rg or g.p.draw_chance(5)]
    if not names:
        raise _Dropped("nothing to retain")
    g.add(Statement("retain_grad", "", (Ref(g.p.draw_choice(names)),), (), (), observe=False))


def _requires_grad(g: Drawer) -> None:
    names = [n for n, _ in g.tensors()]
    g.add(Statement("requires_grad_", "", (Ref(g.p.draw_choice(names)), g.p.draw_chance(75)), (), (), observe=False))


def _detach(g: Drawer) -> None:
    g.add(Statement("detach", "", (Ref(g.p.draw_choice([n for n, _ in g.tensors()])),), (), (g.name(),), observe=False))


def _with_grad(g: Drawer) -> list[str]:
    """Names that hold a gradient; where none does, a backward comes first."""
    for _ in range(2):
        names = [n for n, t in g.tensors() if t._grad is not None and (t._node is None or t._retains)]
        if names:
            return names
        _backward(g)
    raise _Dropped("no gradient")


def _clear_grad(g: Drawer) -> None:
    name = g.p.draw_choice(_with_grad(g))
    g.add(Statement("clear_grad", g.p.draw_choice(("none", "zero")), (Ref(name),), (), (), observe=False))


def _read_grad(g: Drawer) -> None:
    name = g.p.draw_choice(_with_grad(g))
    g.pitfalls.add("aliasing")
    g.add(Statement("read_grad", "", (Ref(name),), (), (g.name(),), observe=False))


def _mode(g: Drawer) -> None:
    g.pitfalls.add("modes")
    if g.depth and g.p.draw_chance(45):
        g.depth -= 1
        g.add(Statement("exit", observe=False))
        return
    op = g.p.draw_choice(("no_grad", "no_grad", "enable_grad", "inference_mode", "set_grad_enabled"))
    args = (g.p.draw_chance(50),) if op == "set_grad_enabled" else ()
    g.depth += 1
    g.add(Statement("enter", op, args, (), (), observe=False))


def _optimizer(g: Drawer) -> None:
    if g.optimizers and g.p.draw_chance(70):
        _use_optimizer(g, g.p.draw_choice(g.optimizers))
        return
    _with_grad(g)
    leaves = [n for n, t in g.tensors() if t._rg and t._node is None]
    if not leaves:
        raise _Dropped("no parameter")
    params = tuple(Ref(n) for n in leaves[: g.p.draw_integer(1, 3)])
    options: dict[str, Any] = {"lr": g.p.draw_choice((0.1, 0.5, 1.0, 0.01))}
    if g.p.draw_chance(40):
        options["momentum"] = g.p.draw_choice((0.9, 0.5))
        if g.p.draw_chance(40):
            options["nesterov"] = True
        elif g.p.draw_chance(30):
            options["dampening"] = 0.5
    if g.p.draw_chance(30):
        options["weight_decay"] = 0.1
    if g.p.draw_chance(25):
        options["maximize"] = True
    out = g.name("opt")
    if g.add(Statement("optimizer", "SGD", (params,), tuple(options.items()), (out,), observe=False)) is None:
        g.optimizers.append(out)
        g.add(Statement("step", "", (Ref(out),), (), (), observe=False))
        if g.p.draw_chance(50):
            _use_optimizer(g, out)


def _use_optimizer(g: Drawer, name: str) -> None:
    if g.p.draw_chance(60):
        g.add(Statement("step", "", (Ref(name),), (), (), observe=False))
    else:
        kwargs = (("set_to_none", False),) if g.p.draw_chance(40) else ()
        g.add(Statement("zero_grad", "", (Ref(name),), kwargs, (), observe=False))


def _delete(g: Drawer) -> None:
    names = [n for n, _ in g.tensors()]
    if len(names) < 4:
        raise _Dropped("too few")
    g.add(Statement("delete", "", (Ref(g.p.draw_choice(names[1:])),), (), (), observe=False))


def _illegal(g: Drawer) -> None:
    """Something that must raise: a shape that does not fit, backward from what has no graph, a hook where no gradient comes."""
    g.pitfalls.add("arguments")
    x = g.operand("mul", ranks=(1, 4), dtypes=FLOATS)
    kind = g.p.draw_integer(0, 4)
    if kind == 0:
        bad = tuple(n + 1 for n in g.shape_of(x)) if all(g.shape_of(x)) else (3, 7)
        g.add_op("operator", "add", [x, g.literal(g.dtype_of(x), bad)], {})
    elif kind == 1:
        g.add(Statement("backward", "", (g.literal("float32", (), requires_grad=False),), (), (), observe=False))
    elif kind == 2:
        g.add_op("method", "sum", [x], {"dim": 7})
    elif kind == 3:
        g.add(Statement("inplace", "add", (g.literal("int64", (2,)), 1.5), (), (), observe=False))
    else:
        g.add(Statement("hook", "observe", (g.literal("float32", (2,), requires_grad=False),), (), (g.name("h"),), observe=False))


#: kind of statement -> (weight, how it is drawn)
ACTIONS: Final[dict[str, tuple[int, Callable[[Drawer], None]]]] = {
    "op": (520, _op), "inplace": (70, _inplace), "view_write": (55, _view_write), "getitem": (30, _getitem), "setitem": (30, _setitem),
    "backward": (75, _backward), "grad": (60, _grad), "hook": (22, _hook), "retain_grad": (16, _retain_grad),
    "requires_grad": (10, _requires_grad), "detach": (14, _detach), "clear_grad": (14, _clear_grad), "read_grad": (10, _read_grad),
    "mode": (26, _mode), "optimizer": (34, _optimizer), "delete": (8, _delete), "illegal": (14, _illegal),
}  # fmt: skip


@lru_cache(maxsize=64)
def _actions(mix: Mix) -> tuple[tuple[Callable[[Drawer], None], ...], tuple[int, ...]]:
    factors = dict(mix.actions)
    weights = [max(int(weight * factors.get(name, 1.0)), 0) for name, (weight, _) in ACTIONS.items()]
    return tuple(action for _, action in ACTIONS.values()), tuple(int(x) for x in np.cumsum(weights))


def draw(provider: Provider, mix: Mix = Mix()) -> Program:  # Mix is frozen
    """One program. Raises nothing: what the reference lacks is left out."""
    g = Drawer(provider, mix, Walk(Reference(), Program((), hooked=False), tensor_type=Tensor))
    g.big = provider.draw_chance(4)
    try:
        _draw_statements(g)
    finally:
        while g.walk.blocks:
            g.walk.blocks.pop().__exit__(None, None, None)
    return _finish(g)


def _draw_statements(g: Drawer) -> None:
    for _ in range(g.p.draw_integer(1, 2)):
        g.literal(g.dtype(FLOATS), g.shape(), requires_grad=True)
    target = g.p.draw_integer(g.mix.min_statements, g.mix.max_statements)
    actions, cumulative = _actions(g.mix)
    for _ in range(3 * target):
        if len(g.statements) >= target:
            break
        try:
            g.p.draw_weighted(cumulative, actions)(g)
        except _Dropped:
            continue
    while g.depth:
        g.depth -= 1
        g.add(Statement("exit", observe=False))
    try:
        if g.p.draw_chance(40):
            _backward(g)
        if g.p.draw_chance(75):
            _backward_from_ends(g)
    except _Dropped:
        pass


def _finish(g: Drawer) -> Program:
    """Says after which statements the program is observed (one in ten only at its end) and whether it is hooked (19 of 20)."""
    only_end = g.p.draw_chance(10)
    hooked = not only_end and not g.p.draw_chance(5)
    last = len(g.statements) - 1
    statements = tuple(
        Statement(s.kind, s.op, s.args, s.kwargs, s.out, observe=not only_end or i == last) for i, s in enumerate(g.statements)
    )
    return Program(statements, hooked, (("pitfalls", ",".join(sorted(g.pitfalls))),))


def from_seed(seed: int, mix: Mix = Mix()) -> Program:
    """The program that the plain stream draws for this seed."""
    return draw(Stream(seed), mix)


def from_hypothesis(seed: int, mix: Mix = Mix()) -> Program:
    """A program drawn through Hypothesis, its choices seeded by ``seed``."""
    from hypothesis import HealthCheck, Phase, given, settings, strategies
    from hypothesis import seed as seeded

    found: list[Program] = []

    @seeded(seed)
    @settings(max_examples=2, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategies.data())
    def collect(data: Any) -> None:
        found.append(draw(FromHypothesis(data), mix))

    collect()
    return found[-1]


__all__ = ["Mix", "draw", "drawn_ops", "from_hypothesis", "from_seed"]
