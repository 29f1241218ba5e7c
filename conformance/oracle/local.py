"""Local judging: each statement's outputs against the exact result of that statement on the subject's own inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.observation import TensorState
from conformance.oracle import ties
from conformance.oracle.exactly import Node, Scope, after_write, as_tuple, evaluate, is_float, locations, positions
from conformance.oracle.interval import changed, compare, evidence, premature_overflow
from conformance.program import Ref, Statement
from refgrad._dtypes import BY_NAME, FLOAT
from refgrad._exact import ball
from refgrad._ops.creation import RANDOM
from refgrad._table import TABLE
from refgrad._tensor import Tensor, make

#: kinds whose outputs are values of an op
OPS = frozenset(("call", "method", "operator", "getitem"))
#: besides views: the sign of a zero is part of the result
SIGNED = frozenset(
    ("neg", "abs", "copysign", "clone", "where", "cat", "stack", "gather", "index_select", "masked_select", "flip", "roll", "take")
)
#: nothing is promised of their values: arbitrary memory, or a random stream that differs by device and kernel
UNPREDICTABLE = RANDOM | {"empty", "empty_like", "new_empty", "empty_strided"}
WRITES = frozenset(("inplace", "augmented", "setitem"))


def op_name(statement: Statement) -> str:
    """Whose fault a wrong statement is: the table's name, or the kind for statements without an op."""
    if statement.kind in ("call", "method", "operator", "inplace", "augmented"):
        return statement.op
    if statement.kind in ("optimizer",):
        return statement.op
    return statement.kind


def shaped_by_values(statement: Statement) -> bool:
    """Whether the result's shape depends on the operands' values: a mask, or what is searched for."""
    if statement.kind == "getitem":
        return any(isinstance(a, Ref) for a in _indices(statement.args[1]))
    return statement.op in ("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive")


def _indices(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def judge_op(judge: Any, index: int, statement: Statement) -> None:
    """An op statement: values of its outs, and the node that later backwards are balanced with."""
    recorded = any(name in judge.new_slots for name in statement.out)
    scope = judge.scope() if recorded else Scope(judge.values, {}, judge.states)
    if judge.lacks_values(statement):
        judge.unknown_outs(statement)
        return
    if statement.op in UNPREDICTABLE:
        return
    if statement.op == "as_strided" and not judge.alone_and_dense(next(statement.refs())):
        judge.unknown_outs(statement)  # it reads memory beyond its operand, which a ball does not have
        return
    outs = as_tuple(evaluate(statement, scope))
    hidden = False  # whether something that the gradient depends on is not seen
    if ties.tied(judge, statement):
        followed = ties.follow(judge, statement, outs, scope.leaves[0][1])
        outs, hidden = followed or outs, followed is None
    entry = TABLE.get(statement.op)
    signed = entry is not None and (entry.view or entry.name in SIGNED)
    known = set(judge.slots.values())
    node_outs = []
    for name, out in zip(statement.out, outs, strict=False):
        got = judge.new_values.get(name)
        if got is None or not isinstance(out, Tensor):
            continue
        hidden |= judge_value(judge, index, statement, name, out, got, signed)
        if name not in judge.new_slots:
            continue
        if judge.new_slots[name] not in known:  # otherwise the op returned its input: one gradient edge under two names
            node_outs.append((judge.new_slots[name], out))
    if hidden:
        judge.unknown_outs(statement)
    elif node_outs:
        judge.nodes.append(Node(index, op_name(statement), scope.used(), node_outs))


def judge_value(
    judge: Any, index: int, statement: Statement, name: str, out: Any, got: np.ndarray, signed: bool = False, op: str = ""
) -> bool:
    """Whether something on the way to the value overflowed, as it may: the gradient's formula then uses what is not seen."""
    mid, radius = out._data, (out._exact[1] if out._exact is not None else None)
    if mid.shape != got.shape:
        return False  # the state facets say so
    comparison, overflowed = compare(mid, radius, got, signed), False
    if comparison.bad is not None and _has_intermediates(statement):
        before = comparison.inconclusive
        comparison = premature_overflow(comparison, mid, got, [judge.values[n] for n in statement.refs() if n in judge.values])
        overflowed = comparison.inconclusive > before
    judge.count(op_name(statement), name, "value", comparison, mid, got)
    if comparison.bad is not None:
        entry = TABLE.get(statement.op)
        reason = (entry.reason or "default allowance of its kind") if entry is not None else "a copy"
        judge.diverge(index, op or op_name(statement), "value", name, evidence(mid, radius, got, comparison.bad, reason), order=0)
    return overflowed


def _has_intermediates(statement: Statement) -> bool:
    entry = TABLE.get(statement.op)
    return entry is not None and not (entry.direct and entry.error == "elementwise" and not entry.composite)


# --- writes -------------------------------------------------------------------------------------------------------------------


def judge_write(judge: Any, index: int, statement: Statement) -> None:
    """An in-place statement: the written tensor's value, what its aliases must show then, and the node for the history of the base."""
    target: str = statement.args[0].name
    if judge.lacks_values(statement):
        judge.unknown_write(target)
        return
    state: TensorState = judge.states[target]
    place = locations(state)
    if positions(place, place) is None and place.size:  # elements of its own share memory: which write comes last is not promised
        judge.expected_change.update(n for n, s in judge.states.items() if s.alias == state.alias)
        judge.unknown_outs(statement)
        judge.unknown_write(target)
        return
    scope = judge.scope()
    region, new = _written(judge, statement, scope, state)
    got = judge.new_values.get(target, judge.values[target])
    expected = scope_full(judge.values[target], region, new, state)
    judge_value(judge, index, statement, target, expected, got, op=_writer(judge, statement))
    judge_aliases(judge, index, statement, {target: got})
    add_write_node(judge, index, statement, target)


def _writer(judge: Any, statement: Statement) -> str:
    """Whose fault a wrong write is: that of writing in place, whatever the op, where memory is read that the write has already changed."""
    target, *read = statement.refs()
    state = judge.states[target]
    entry = TABLE.get(statement.op)
    elementwise = statement.kind != "setitem" and entry is not None and entry.iterates
    return "inplace" if any(_clash(state, judge.states[name], elementwise) for name in read if name in judge.states) else op_name(statement)


def _clash(written: TensorState, read: TensorState, elementwise: bool) -> bool:
    """Whether both share memory; an elementwise kernel reads each element before it writes that very one."""
    if written.alias != read.alias:
        return False
    places, others = locations(written), locations(read)
    return bool(np.isin(others, places).any()) and not (elementwise and np.array_equal(places, others))


def _written(judge: Any, statement: Statement, scope: Scope, state: TensorState) -> tuple[np.ndarray | None, Any]:
    """(flat positions in the target, or None for all of it; the ball of what is written there)."""
    if statement.kind != "setitem":
        return None, _cast(_in_place_result(statement, scope, scope.leaf(statement.args[0].name)), state)
    index = scope.resolve(statement.args[1])
    places = _numbered(state)[index]._data
    return places, _spread(scope.resolve(statement.args[2]), places.shape, state)


def _numbered(state: TensorState) -> Any:
    """A tensor of this shape whose elements are their own flat positions."""
    count = int(np.prod(state.shape, dtype=np.int64))
    return make(np.arange(count, dtype=np.int64).reshape(state.shape))


def _in_place_result(statement: Statement, scope: Scope, target: Any) -> Any:
    """The out-of-place form of an in-place statement, its first operand replaced by ``target``."""
    args = [target, *(scope.resolve(a) for a in statement.args[1:])]
    kwargs = {k: scope.resolve(v) for k, v in statement.kwargs}
    return TABLE[statement.op].public(*args, **kwargs)


def _cast(out: Any, state: TensorState) -> Any:
    wanted = BY_NAME[state.dtype]
    if out.dtype is not wanted:
        out = TABLE["_to_copy"].public(out, wanted)
    return out if out._data.shape == tuple(state.shape) else out.expand(tuple(state.shape))


def _spread(value: Any, shape: tuple[int, ...], state: TensorState) -> Any:
    wanted = BY_NAME[state.dtype]
    if not isinstance(value, Tensor):
        value = ball(np.asarray(value, wanted.np))
    if value.dtype is not wanted:
        value = TABLE["_to_copy"].public(value, wanted)
    while value._data.ndim > len(shape):
        value = value.squeeze(0)
    return value.expand(shape)


def scope_full(old: np.ndarray, region: np.ndarray | None, new: Any, state: TensorState) -> Any:
    """The whole target after the write, as a ball without a graph."""
    if region is None:
        return new
    full = ball(old) if is_float(state.dtype) else make(old)
    data = full._data.copy().reshape(-1)
    data[region.reshape(-1)] = new._data.reshape(-1)
    radius: np.ndarray | None = None
    if new._exact is not None and new._exact[1] is not None:
        radius = np.zeros(data.shape)
        radius[region.reshape(-1)] = np.broadcast_to(new._exact[1], new._data.shape).reshape(-1)
        radius = radius.reshape(old.shape)
    out = ball(old, radius=radius) if is_float(state.dtype) else make(old)
    out._data = data.reshape(old.shape)
    return out


def judge_aliases(judge: Any, index: int, statement: Statement, written: dict[str, np.ndarray]) -> None:
    """Everybody who shares memory with what was written (name -> its bits now, in the order of writing) shows it."""
    judge.expected_change.update(written)
    for name, other in judge.states.items():
        writers = [t for t in written if judge.states[t].alias == other.alias]
        if name in written or not writers or name not in judge.values:
            continue
        judge.expected_change.add(name)
        if any(judge.states[t].dtype != other.dtype for t in writers):
            continue
        right = judge.values[name]
        for target in writers:
            right = after_write(right, locations(other), written[target], locations(judge.states[target]))
        got = judge.new_values.get(name, judge.values[name])
        if right.tobytes() != got.tobytes():
            judge.diverge(index, op_name(statement), "aliasing", name, changed(right, got, "aliases share memory"))


def add_write_node(judge: Any, index: int, statement: Statement, target: str) -> None:
    state = judge.states[target]
    base = target if state.base is None else state.base
    if base == "unnamed" or base not in judge.values:
        if judge.new_slots.get(target) != judge.slots.get(target):
            judge.unknown_outs(statement)
            judge.unknown_write(target)
        return
    if judge.new_slots.get(base) == judge.slots.get(base):
        return  # nothing was recorded
    base_state = judge.states[base]
    scope = judge.scope()
    base_leaf = ball(judge.values[base], requires_grad=scope.needs_grad(base))
    out = _functional_write(judge, statement, scope, base_leaf, base_state, state, target == base)
    if out is None or _casts(statement, scope, state):  # the operands' gradients may be computed in either dtype
        judge.unknown_outs(statement)
        judge.unknown_write(target)
        return
    leaves = scope.used()
    if base_leaf._rg:
        leaves.append((judge.slots[base], base_leaf))
    judge.nodes.append(Node(index, op_name(statement), leaves, [(judge.new_slots[base], out)]))
    if target != base and target in judge.slots:
        judge.written_through.add(judge.slots[target])


def _casts(statement: Statement, scope: Scope, state: TensorState) -> bool:
    return any(leaf.dtype.category == FLOAT and leaf.dtype.name != state.dtype for _, leaf in scope.leaves)


def _functional_write(
    judge: Any, statement: Statement, scope: Scope, base_leaf: Any, base: TensorState, state: TensorState, whole: bool
) -> Any:
    """The base after the write, as a differentiable function of the base before and the operands."""
    place = locations(state)
    if statement.kind == "setitem":
        chosen = _numbered(state)[scope.resolve(statement.args[1])]._data
        place = place.reshape(-1)[chosen]
    elif whole:
        return _cast(_in_place_result(statement, scope, base_leaf), state)
    where = positions(place, locations(base))
    if where is None:
        return None
    flat = base_leaf.reshape(-1)
    index = make(np.array(where))
    if statement.kind == "setitem":
        new = _spread(scope.resolve(statement.args[2]), place.shape, state)
    else:
        new = _cast(_in_place_result(statement, scope, flat[index]), state)
    return TABLE["index_put"].public(flat, (index,), new).reshape(tuple(base.shape))


def add_rebuilt_views(judge: Any, index: int, statement: Statement) -> None:
    """Views whose node was rebuilt because their base was written to: their gradients flow to the base's current slot."""
    states = judge.new_states
    seen: set[Any] = set()
    for name, slot in judge.new_slots.items():
        if slot in seen:  # another name of one tensor
            continue
        seen.add(slot)
        if slot == judge.slots.get(name) or name in statement.out or name not in states:
            continue
        base = states[name].base
        if base is None or states[name].is_leaf or (base in states and states[base].requires_grad is False):
            continue
        if base not in judge.new_slots or base not in judge.now:
            judge.unknown.add(slot)
            continue
        where = positions(locations(states[name]), locations(states[base]))
        if where is None:
            judge.unknown.add(judge.new_slots[base])
            continue
        leaf: Any = ball(judge.now[base], requires_grad=True)
        out = leaf.reshape(-1)[make(np.array(where))]
        judge.nodes.append(Node(index, op_name(statement), [(judge.new_slots[base], leaf)], [(slot, out)], rebuilt=True))


__all__ = ["OPS", "WRITES", "Ref", "add_rebuilt_views", "judge_op", "judge_write", "op_name"]
