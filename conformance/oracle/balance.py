"""Backward by balance: what arrived at a slot must equal the sum, over the nodes that used it, of each node's exact vjp of what flowed on
at its outs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.divergence import Evidence
from conformance.observation import Arrival, Observation
from conformance.oracle import local
from conformance.oracle.exactly import Node, Slot
from conformance.oracle.interval import Comparison, changed, compare, evidence, premature_overflow
from conformance.oracle.undefined import settle
from conformance.program import Ref, Statement
from conformance.subjects.walk import NO_DERIVATIVE
from refgrad._dtypes import FLOAT, OF
from refgrad._exact import REFERENCE, ball
from refgrad._storage import every
from refgrad._table import TABLE


def judge_backward(judge: Any, index: int, statement: Statement, observation: Observation) -> None:
    """All arrivals of one backward or grad statement, then ``.grad`` or what grad returned."""
    if judge.hook_wrote:  # it may have written into anything that shares the gradient's memory: only state is judged
        judge.expected_change.update(judge.new_values)
        return
    deep = bool(judge.opaque) and statement.keyword("create_graph", False)
    judge.deep = judge.deep or deep
    # third derivatives through a result; what flows where a gradient's own graph may use the result is not seen apart from what the hook
    # made of it
    if judge.deep or (judge.hook_changed and judge.opaque):
        judge.expected_change.update(_sharing_gradients(judge))
        return
    if not judge.program.hooked or _accumulates_into_what_flows(judge, statement):
        judge.expected_change.update(_sharing_gradients(judge))
        return
    arrived = _arrivals(judge, index, observation)
    create_graph = bool(statement.keyword("create_graph", False))
    expected = _expected(judge, index, statement, arrived, create_graph)
    if observation.raised is None:
        restricted = statement.kind == "grad" or statement.keyword("inputs") is not None
        for slot in {**expected, **{s: None for s in arrived}}:
            _judge_slot(judge, index, slot, expected.get(slot, []), arrived.get(slot), restricted)
    judge.opaque |= judge.next_opaque  # from the next backward on
    if statement.kind == "grad":
        _judge_captured(judge, index, statement, arrived)
    _judge_accumulation(judge, index, statement, arrived, raised=observation.raised is not None)


def _accumulates_into_what_flows(judge: Any, statement: Statement) -> bool:
    """Whether gradients share memory with each other, or with what this backward is given: what is added in place then changes what flows,
    or another sum, in an order that is the engine's.
    """
    given = statement.keyword("gradient") if statement.kind == "backward" else statement.keyword("grad_outputs")
    seeds = {
        judge.states[r.name].alias
        for r in (given if isinstance(given, tuple) else (given,))
        if isinstance(r, Ref) and r.name in judge.states
    }
    held: dict[int, str] = {}
    for name, state in judge.states.items():
        if not name.endswith(".grad"):
            continue
        owner = judge.slots.get(name[:-5], name)
        if state.alias in seeds or held.setdefault(state.alias, owner) != owner:
            return True
    return False


def _sharing_gradients(judge: Any) -> set[str]:
    """The gradients, and whatever shares memory with one."""
    memories = {s.alias for n, s in judge.states.items() if n.endswith(".grad")}
    return {n for n, s in judge.new_states.items() if n.endswith(".grad") or s.alias in memories}


def _arrivals(judge: Any, index: int, observation: Observation) -> dict[Slot, tuple[int, Arrival]]:
    found: dict[Slot, tuple[int, Arrival]] = {}
    for place, a in enumerate(observation.arrivals):
        slot: Slot = (a.name, a.slot) if a.of is None else ("@", *a.of)
        slot = judge.same_edge.get(slot, slot)
        if slot not in found:  # one edge under two names is hooked twice; the first hook stands before the program's
            found[slot] = (place, a)
    return found


def _expected(
    judge: Any, index: int, statement: Statement, arrived: dict[Slot, tuple[int, Arrival]], create_graph: bool
) -> dict[Slot, list[tuple[Node | None, Any]]]:
    expected: dict[Slot, list[tuple[Node | None, Any]]] = {}
    judge.wild.clear()
    judge.pulled.clear()
    for slot, seed in _seeds(judge, statement):
        expected.setdefault(judge.same_edge.get(slot, slot), []).append((None, seed))
    flows = {
        slot: ball(a.flowed, requires_grad=create_graph and a.differentiable)
        for slot, (_, a) in arrived.items()
        if OF[a.flowed.dtype].category == FLOAT
    }
    made = []
    for node in reversed(judge.nodes):  # whatever used an out stands later in the list, so its contribution is there already
        here = [_flow(judge, judge.same_edge.get(slot, slot), flows, expected, create_graph) for slot, _ in node.outs]
        if _untold(judge, node, expected, arrived):
            judge.unknown.update(slot for slot, _ in node.leaves)
        if all(f is None for f in here):
            _judge_unseen(judge, index, node, expected, arrived)
            continue
        if any(f is not None and not every(np.isfinite(f._data)) for f in here):
            judge.wild.add(node.statement)
        origin = next((_guilty(expected[s]) for s in _unbalanced(judge, node, expected, arrived)), None)
        # nothing was judged where the flow is opaque: what made it is to blame
        named = node if origin is None else replace(node, op=origin, itself=node.op)
        try:
            contributions = node.pull(here, create_graph)
        except RuntimeError as error:
            if not NO_DERIVATIVE.search(str(error)):
                raise
            judge.unknown.update(slot for slot, _ in node.leaves)
            continue
        for place, (slot, contribution) in enumerate(contributions):
            expected.setdefault(judge.same_edge.get(slot, slot), []).append((named, contribution))
            judge.pulled[id(contribution)] = (node, here, place)
        if create_graph:
            made.append(_vjp_node(judge, index, node, here, contributions, arrived))
            judge.next_opaque.update(judge.same_edge.get(slot, slot) for slot, _ in node.outs)
    if create_graph:
        judge.next_opaque |= judge.written_through
    judge.next_opaque.update(n.outs[0][0] for n in judge.nodes if n.rebuilt and n.leaves[0][0] in judge.next_opaque)
    judge.nodes += [m for m in reversed(made) if m is not None]
    return expected


def _judge_unseen(
    judge: Any, index: int, node: Node, expected: dict[Slot, list[tuple[Node | None, Any]]], arrived: dict[Slot, tuple[int, Arrival]]
) -> None:
    """No hook ran at a node's outs, though gradients were sent there and came out behind it."""
    outs, behind = ([judge.same_edge.get(s, s) for s, _ in ends] for ends in (node.outs, node.leaves))
    sent = [s for s in outs if s[0] != "@" and s in expected and s not in judge.unknown]
    if sent and any(s in arrived and s not in expected for s in behind):
        name, number = sent[0]
        found = Evidence("a hook runs", "none runs", "a hook runs once per gradient, until it is removed")
        judge.diverge(index, "hook", "grad", f"{name}@{number}", found, order=1)
        judge.unknown.update(behind)


def _flow(judge: Any, slot: Slot, flows: dict[Slot, Any], expected: dict[Slot, list[tuple[Node | None, Any]]], create_graph: bool) -> Any:
    """What flows at an out. Where a gradient's own graph may use the result (an opaque slot), what arrives there tells how the formula was
    written: what flows is then taken from the other uses alone, and the result's share is part of the vjp's own derivative.
    """
    if slot not in judge.opaque:
        return flows.get(slot)
    if slot not in expected or slot not in flows:
        return None
    mid, radius = _total(expected[slot])
    made = ball(np.zeros(0), expected[slot][0][1].dtype, requires_grad=False)
    made._data, made._exact = mid, (made._exact[0], radius)
    return made


def _unbalanced(
    judge: Any, node: Node, expected: dict[Slot, list[tuple[Node | None, Any]]], arrived: dict[Slot, tuple[int, Arrival]]
) -> list[Slot]:
    """Opaque outs at which something else arrived than what the other uses sent: the result's own share, or an error of those."""
    outs = [judge.same_edge.get(slot, slot) for slot, _ in node.outs]
    opaque = [s for s in outs if s in judge.opaque and s in expected]
    return [s for s in opaque if s not in arrived or not _balances(expected[s], arrived[s][1].value)]


def _balances(contributions: list[tuple[Node | None, Any]], got: np.ndarray) -> bool:
    mid, radius = _total(contributions)
    return mid.shape == got.shape and OF[got.dtype].wide is mid.dtype and compare(mid, radius, got).bad is None


def _untold(judge: Any, node: Node, expected: dict[Slot, list[tuple[Node | None, Any]]], arrived: dict[Slot, tuple[int, Arrival]]) -> bool:
    """Whether something arrived at an opaque out of which it cannot be said what: elsewhere what arrived is seen, here it is reckoned."""
    outs = {judge.same_edge.get(slot, slot) for slot, _ in node.outs}
    return any(s in judge.unknown or s not in expected for s in outs & judge.opaque & arrived.keys())


def _vjp_node(
    judge: Any, index: int, node: Node, flows: list[Any], contributions: list[tuple[Slot, Any]], arrived: dict[Slot, tuple[int, Arrival]]
) -> Node | None:
    """The vjp that a create_graph backward ran, as a node itself: from the node's inputs and what flowed, to what arrived."""
    leaves = list(node.leaves)
    for (slot, _), flow in zip(node.outs, flows, strict=True):
        slot = judge.same_edge.get(slot, slot)
        if flow is not None and flow._rg:
            leaves.append((("@", index, arrived[slot][0]), flow))
    outs = []
    for slot, contribution in contributions:
        slot = judge.same_edge.get(slot, slot)
        if slot in arrived and contribution._rg:
            outs.append((("@", index, arrived[slot][0]), contribution))
    if len(outs) > 1:  # a formula may make one gradient of another, whose hook then sees that flow, too
        judge.next_opaque.update(slot for slot, _ in outs)
    return Node(node.statement, node.op, leaves, outs) if outs else None


def _seeds(judge: Any, statement: Statement) -> list[tuple[Slot, Any]]:
    if statement.kind == "backward":
        roots: tuple[Any, ...] = (statement.args[0],)
        given: tuple[Any, ...] = (statement.keyword("gradient"),)
    else:
        roots = statement.args[0] if isinstance(statement.args[0], tuple) else (statement.args[0],)
        grads = statement.keyword("grad_outputs")
        given = (None,) * len(roots) if grads is None else grads if isinstance(grads, tuple) else (grads,)
    seeds = []
    for root, grad in zip(roots, given, strict=False):
        if not isinstance(root, Ref) or root.name not in judge.slots:
            continue
        if root.name not in judge.values:
            judge.spoil(judge.slots[root.name])
            continue
        slot = judge.slots[root.name]
        if grad is None:
            seeds.append((slot, ball(np.ones_like(judge.values[root.name]))))
            continue
        value = judge.scope().resolve(grad)
        if value.dtype is not OF[judge.values[root.name].dtype]:  # converted to its root's dtype on the way in
            value = TABLE["_to_copy"].public(value, OF[judge.values[root.name].dtype])
        if isinstance(grad, Ref) and grad.name in judge.slots and statement.keyword("create_graph") is True:
            judge.spoil(judge.slots[grad.name])
        seeds.append((slot, value))
    return seeds


def _judge_slot(
    judge: Any, index: int, slot: Slot, contributions: list[tuple[Node | None, Any]], found: tuple[int, Arrival] | None, restricted: bool
) -> None:
    if slot in judge.opaque and found is not None and contributions:
        _judge_opaque(judge, index, slot, contributions, found)
    if slot in judge.unknown or slot in judge.opaque or (slot[0] == "@" and judge.hook_changed):
        return
    name = slot[0] if slot[0] != "@" else judge.arrival_names.get(slot, "gradient")
    order = 1 if found is None else found[1].order
    op = _guilty(contributions)
    label = f"{name}@{slot[1]}" if slot[0] != "@" else f"{name}@gradient"
    if found is None:
        if not restricted and any(_nonzero(c) for _, c in contributions):
            judge.diverge(
                index, op, "grad", label, Evidence("a gradient", "nothing", "every use of a tensor sends its gradient"), order=order
            )
        return
    arrival = found[1]
    judge.arrival_names["@", index, found[0]] = arrival.name
    if not contributions:
        if np.any(arrival.value != 0):
            judge.diverge(
                index, "backward", "grad", label, Evidence("nothing", "a gradient", "no use of this tensor is on the path"), order=order
            )
        return
    mid, radius = _total(contributions)
    if mid.shape != arrival.value.shape or OF[arrival.value.dtype].wide is not mid.dtype:
        text = f"{arrival.value.dtype} {list(arrival.value.shape)}"
        judge.diverge(
            index, op, "grad", label, Evidence(f"shape {list(mid.shape)}", text, "a gradient has its tensor's dtype and shape"), order=order
        )
        return
    comparison = compare(mid, radius, arrival.value)
    if comparison.bad is not None:
        comparison = premature_overflow(comparison, mid, arrival.value, _operands(contributions))
        comparison = settle(judge, contributions, comparison, mid, arrival.value)
    judge.count(op, arrival.name, "grad", comparison, mid, arrival.value, dtype=OF[arrival.value.dtype].name)
    if comparison.bad is not None:
        if not np.isfinite(arrival.value.astype(mid.dtype)[comparison.bad]).any():
            op = _guilty(contributions, judge.wild)
        reason = "the op's formula, one rounding per step, on the gradient that arrived at its output"
        found_there = evidence(mid, radius, arrival.value, comparison.bad, reason)
        judge.diverge(index, op, "grad", label, found_there, order=order, suspects=_suspects(contributions) - {op})


def _judge_opaque(judge: Any, index: int, slot: Slot, contributions: list[tuple[Node | None, Any]], found: tuple[int, Arrival]) -> None:
    """Only what is not finite though every use is: a formula's way through the result cannot explain that."""
    mid, radius = _total(contributions)
    got = found[1].value
    if mid.shape == got.shape and np.isfinite(mid).all() and np.isfinite(radius).all():
        comparison = Comparison(np.asarray(~np.isfinite(got.astype(mid.dtype))), 0, got.size)
        bad = premature_overflow(comparison, mid, got, _operands(contributions)).bad
        if bad is not None and bad.any():
            reason = "the op's formula on the gradient that arrived at its output"
            judge.diverge(
                index, _guilty(contributions), "grad", f"{slot[0]}@{slot[1]}", evidence(mid, radius, got, bad, reason), order=found[1].order
            )


def _operands(contributions: list[tuple[Node | None, Any]]) -> list[np.ndarray]:
    """What the ops that sent these computed with."""
    return [leaf._data for node, _ in contributions if node is not None for _, leaf in (*node.leaves, *node.outs)]


def _nonzero(contribution: Any) -> bool:
    return bool(np.any(contribution._data != 0))


def _guilty(contributions: list[tuple[Node | None, Any]], wild: set[int] | None = None) -> str:
    """Whose contribution is wrong cannot be seen in the sum: the first op that rounds, rather than one that only moves elements."""
    nodes = [node for node, _ in contributions if node is not None]
    if wild:  # what is not finite came from where something not finite flowed
        nodes = [n for n in nodes if n.statement in wild] or nodes
    ops = [node.op for node in nodes]
    rounding = [op for op in ops if op in TABLE and not (TABLE[op].view or TABLE[op].error == "exact")]
    return (rounding or ops or ["backward"])[0]


def _suspects(contributions: list[tuple[Node | None, Any]]) -> set[str]:
    """Every op that sent a part of the sum."""
    nodes = [node for node, _ in contributions if node is not None]
    return {op for node in nodes for op in (node.op, node.itself) if op}


def _total(contributions: list[tuple[Node | None, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the balls; adding m of them rounds m - 1 times, in any order, relative to the sum of magnitudes."""
    first = contributions[0][1]
    mid, radius = first._data, first.radius
    if len(contributions) == 1:
        return mid, radius
    magnitude = np.abs(mid)
    for _, c in contributions[1:]:
        mid = mid + c._data
        radius = radius + c.radius
        magnitude = magnitude + np.abs(c._data)
    unit = first.dtype.unit
    return mid, radius + (len(contributions) - 1) * unit * REFERENCE * magnitude.astype(np.float64)


# --- what accumulates, what grad returns --------------------------------------------------------------------------------------


def _judge_accumulation(judge: Any, index: int, statement: Statement, arrived: dict[Slot, tuple[int, Arrival]], raised: bool) -> None:
    """``.grad`` against what it held plus what arrived. Of a backward that raised, it is not said which gradients it had added before."""
    inputs = statement.keyword("inputs")
    chosen = None if inputs is None else {judge.slots.get(r.name) for r in inputs if isinstance(r, Ref)}
    if statement.kind == "grad":  # only what retains its gradient keeps it
        chosen = set()
    written: dict[str, np.ndarray] = {}
    for name, state in judge.new_states.items():
        if not name.endswith(".grad"):
            continue
        owner = name[:-5]
        judge.expected_change.add(name)
        if owner not in judge.slots:
            continue
        slot = judge.slots[owner]
        found = arrived.get(judge.same_edge.get(slot, slot))
        still = judge.new_states[owner].requires_grad is True if owner in judge.new_states else True
        takes = (
            found is not None and still and (chosen is None or judge.slots[owner] in chosen or judge.new_states[owner].retains_grad is True)
        )
        before, after = judge.values.get(name), judge.now.get(name)
        if after is None or owner not in judge.states:
            continue
        if judge.slots[owner] in judge.unknown:
            if before is not None and state.identity == judge.states[name].identity:
                written[name] = after
            continue
        if not takes:
            if before is not None and before.tobytes() != after.tobytes():
                judge.diverge(index, "backward", "accumulation", name, changed(before, after, "nothing arrived for it"))
            continue
        assert found is not None
        if raised and before is not None and before.tobytes() == after.tobytes():
            continue
        _judge_sum(judge, index, name, before, found[1], after, state, written)
    if written:
        local.judge_aliases(judge, index, statement, written)


def _judge_sum(
    judge: Any,
    index: int,
    name: str,
    before: np.ndarray | None,
    arrival: Arrival,
    after: np.ndarray,
    state: Any,
    written: dict[str, np.ndarray],
) -> None:
    flowed = ball(arrival.flowed)
    if flowed._exact is None or flowed._data.shape != after.shape:
        return
    mid, radius = flowed._data, None
    if before is not None:
        created = judge.new_states[name].identity != judge.states[name].identity
        held = ball(before)
        mid = mid + held._data
        radius = held.dtype.unit * REFERENCE * np.abs(mid).astype(np.float64) + held.dtype.eta
        if not created:  # added in place, and whoever shares the memory sees it
            written[name] = after
    comparison = compare(mid, radius, after)
    judge.count("backward", name, "accumulation", comparison, mid, after, dtype=state.dtype)
    if comparison.bad is not None:
        found = evidence(mid, radius, after, comparison.bad, "what was there plus what arrived, rounded once")
        judge.diverge(index, "backward", "accumulation", name, found, order=1)


def _judge_captured(judge: Any, index: int, statement: Statement, arrived: dict[Slot, tuple[int, Arrival]]) -> None:
    """What ``grad`` returns is what arrived at its inputs, bit for bit; under create_graph both are one gradient edge."""
    inputs = statement.args[1] if isinstance(statement.args[1], tuple) else (statement.args[1],)
    for out, source in zip(statement.out, inputs, strict=False):
        if not isinstance(source, Ref) or source.name not in judge.slots:
            continue
        found = arrived.get(judge.same_edge.get(judge.slots[source.name], judge.slots[source.name]))
        got = judge.new_values.get(out)
        if found is None or got is None:
            continue
        slot = judge.new_slots.get(out)
        if slot is not None and slot not in judge.slots.values():  # otherwise it is one of the tensors that were given
            judge.same_edge[slot] = ("@", index, found[0])
        if found[1].flowed.tobytes() != got.tobytes():
            judge.diverge(index, "grad", "grad", out, changed(found[1].flowed, got, "grad returns what arrives at its input"), order=1)
