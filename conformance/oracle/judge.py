"""The oracle: a program's observations on a subject and on the reference → divergences and what was compared.

The reference ran the same program and took over the subject's values after every statement, so each statement is judged on the subject's
own inputs and nothing accumulates. Judging stops after the first statement that diverges: what follows from a wrong value is not another
cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.divergence import Divergence, Evidence, Key
from conformance.observation import Observation, TensorState
from conformance.oracle import balance, local, optimizer, raised, state
from conformance.oracle.exactly import Node, Scope, Slot, literal_array
from conformance.oracle.interval import Comparison, changed, worst_ulps
from conformance.program import Program, Ref, Statement
from refgrad._dtypes import BY_NAME, FLOAT, OF
from refgrad._errors import SHARED

#: errors that tell of the tensor, not of the op that met it: key -> what made the tensor
BLAMED = {"zero_tensor": "backward"}
#: what inference tensors alone may bring about outside inference mode, by what a kernel happens to be made of: they have no part in
#: autograd, but the tensors that the kernel makes have
OF_INFERENCE = frozenset(("out_grad", "inference_saved", "requires_grad", "is_leaf", "grad_fn", "aliasing"))
#: what is reported when several facets of one statement differ: the one that explains the others
PRECEDENCE = (
    "crash", "hang", "error", "dtype", "shape", "value", "grad", "accumulation", "requires_grad", "is_leaf", "grad_fn", "grad_identity",
    "aliasing", "version", "strides", "warning", "flaky",
)  # fmt: skip


@dataclass(slots=True)
class Verdict:
    """What one program showed. Counters are keyed as the report's tables are."""

    divergences: list[Divergence] = field(default_factory=list)
    elements: int = 0
    inconclusive: int = 0
    unsupported: int = 0
    states: int = 0  # statements whose errors and states were compared
    coverage: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # op, dtype, facet, layout
    accuracy: dict[tuple[str, str, str], float] = field(default_factory=dict)  # op, dtype, facet -> worst ulps


@dataclass(slots=True)
class Judge:
    """One program's judging.

    ``values``, ``states``, ``slots``: before the statement at hand; ``new_…``: after it; ``now``: values after it.
    """

    program: Program
    subject: str
    measure: bool = True
    verdict: Verdict = field(default_factory=Verdict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    states: dict[str, TensorState] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    new_values: dict[str, np.ndarray] = field(default_factory=dict)
    new_states: dict[str, TensorState] = field(default_factory=dict)
    new_slots: dict[str, Slot] = field(default_factory=dict)
    now: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    unknown: set[Slot] = field(default_factory=set)
    deep: bool = False  # a create_graph backward ran where vjps had graphs already
    pulled: dict[int, Any] = field(default_factory=dict)  # id of a contribution -> (node, what flowed, place), in the backward at hand
    wild: set[int] = field(default_factory=set)  # statements at whose outs something not finite flowed, in the backward at hand
    written_through: set[Slot] = field(default_factory=set)  # views before a write: only a gradient's own graph goes through them
    next_opaque: set[Slot] = field(default_factory=set)
    opaque: set[Slot] = field(default_factory=set)  # outs of nodes whose vjp has a graph
    same_edge: dict[Slot, Slot] = field(default_factory=dict)
    arrival_names: dict[Slot, str] = field(default_factory=dict)
    expected_change: set[str] = field(default_factory=set)
    optimizers: dict[str, Any] = field(default_factory=dict)
    gradients: frozenset[str] = frozenset()  # names of tensors that grad returned
    created_graph: bool = False
    hook_wrote: bool = False
    hook_changed: bool = False
    contiguous_inputs: bool = True
    stopped: bool = False
    deleted_leaf: bool = False  # a leaf without a name still accumulates, into memory that others may share

    # --- what the parts of the oracle call --------------------------------------------------------------------------------

    def scope(self) -> Scope:
        return Scope(self.values, self.slots, self.states)

    def lacks_values(self, statement: Statement) -> bool:
        return any(name not in self.values for name in statement.refs())

    def unknown_outs(self, statement: Statement) -> None:
        """The statement could not be evaluated: what its inputs receive later is not judged."""
        for name in statement.refs():
            if name in self.slots:
                self.unknown.add(self.slots[name])

    def spoil(self, slot: Slot) -> None:
        """What arrives at the slot, and through the node that it is an out of, cannot be said."""
        self.unknown.add(slot)
        for node in self.nodes:
            if any(out == slot for out, _ in node.outs):
                self.unknown.update(leaf for leaf, _ in node.leaves)

    def unknown_write(self, target: str) -> None:
        alias = self.states[target].alias if target in self.states else None
        for name, s in self.states.items():
            if s.alias == alias:
                for slots in (self.slots, self.new_slots):
                    if name in slots:
                        self.unknown.add(slots[name])
        for node in self.nodes:  # nor can it be said what reaches the inputs of what was written to
            if any(slot in self.unknown for slot, _ in node.outs):
                self.unknown.update(slot for slot, _ in node.leaves)

    def diverge(
        self,
        index: int,
        op: str,
        facet: str,
        tensor: str,
        found: Evidence,
        order: int = 0,
        error: str = "",
        suspects: Collection[str] = (),
    ) -> None:
        """``suspects``: other ops that may as well have done it."""
        key = Key(op, facet, "reverse", "ordinary", self.dtype_class(tensor), self.subject, error)
        attributes = {"suspects": " ".join(sorted(suspects))} if suspects else {}
        self.verdict.divergences.append(Divergence(key, index, tensor, found, self.program, order, attributes=attributes))

    def culprit(self, statement: Statement, difference: str) -> str:
        """What a difference in state or error is reported under: the op, or what made its operand."""
        operands = [self.states[name] for name in statement.refs() if name in self.states]
        alone = bool(operands) and all(s.is_inference is True for s in operands)
        if alone and difference in OF_INFERENCE and (difference == "aliasing" or any(s.requires_grad is True for s in operands)):
            return "inference_mode"
        return local.op_name(statement)

    def dtype_class(self, tensor: str) -> str:
        name = tensor.split("@")[0]
        s = self.new_states.get(name) or self.states.get(name)
        if s is None or not isinstance(s.dtype, str) or s.dtype not in BY_NAME:
            return "none"
        category = BY_NAME[s.dtype].category
        return s.dtype if category == FLOAT else ("bool" if category == 0 else "int")

    def count(self, op: str, name: str, facet: str, comparison: Comparison, mid: np.ndarray, got: np.ndarray, dtype: str = "") -> None:
        verdict = self.verdict
        verdict.elements += comparison.elements
        verdict.inconclusive += comparison.inconclusive
        s = self.new_states.get(name) or self.states.get(name)
        layout = "contiguous" if s is None or self.contiguous_inputs else "strided"
        dtype = dtype or OF[got.dtype].name
        if comparison.inconclusive < max(comparison.elements, 1):
            verdict.coverage[op, dtype, facet, layout] += 1
        if self.measure and comparison.bad is None and got.dtype.kind != "b":
            worst = worst_ulps(mid, got)
            key = (op, dtype, facet)
            if worst > verdict.accuracy.get(key, 0.0):
                verdict.accuracy[key] = worst

    def clear_zero(self, index: int, statement: Statement, *names: str) -> None:
        """These were to be zeroed, and with them every alias of their memory."""
        zeroed = {name: self.now[name] for name in names if name in self.values and name in self.new_states}
        local.judge_aliases(self, index, statement, zeroed)
        for name, now in zeroed.items():
            if np.any(now != 0):
                self.diverge(index, local.op_name(statement), "value", name, changed(np.zeros_like(now), now, "zeroed in place"))

    # --- the loop -----------------------------------------------------------------------------------------------------------

    def run(self, subject: list[Observation], reference: list[Observation]) -> Verdict:
        for index, statement in enumerate(self.program.statements):
            self.step(index, statement, subject[index], reference[index])
            if self.stopped:
                break
            if self.verdict.divergences:
                self.verdict.divergences.sort(key=lambda d: PRECEDENCE.index(d.key.facet))
                break
        return self.verdict

    def step(self, index: int, statement: Statement, seen: Observation, right: Observation) -> None:
        if seen.unsupported or right.unsupported:
            self.verdict.unsupported += 1
            self.stopped = True  # the two went different ways
            return
        if local.shaped_by_values(statement) and self.lacks_values(statement):
            self.stopped = True  # nobody looked at the values, so the reference could not take them over
            return
        self.new_values = seen.values
        self.new_states = right.states if right.states is not None else self.states
        self.new_slots = _slots(right) or self.slots
        self.now = {**self.values, **seen.values}
        self.expected_change = set()
        self.verdict.states += 1
        self.judge_errors(index, statement, seen, right)
        if self.stopped:
            return
        self.judge_hooks(index, seen, right)
        self.judge_state(index, statement, seen, right)
        if not self.verdict.divergences:
            self.judge_values(index, statement, seen)
        self.advance(statement, right)

    def judge_errors(self, index: int, statement: Statement, seen: Observation, right: Observation) -> None:
        difference = raised.differs(seen, right)
        if difference is not None and self.created_graph and set(difference) <= raised.OF_SAVED:
            self.stopped = True  # what a gradient's own graph saves is the engine's affair
            return
        if difference is not None:
            found = Evidence(raised.describe(right.raised), raised.describe(seen.raised), "documented errors")
            tensor = statement.out[0] if statement.out else next(statement.refs(), "")
            op = BLAMED.get(difference[1], self.culprit(statement, difference[1]))
            self.diverge(index, op, "error", tensor, found, error=difference[1])

    def judge_hooks(self, index: int, seen: Observation, right: Observation) -> None:
        """The program's hooks ran where they had to.

        What they made of a gradient is judged from what flows on, so nothing else would tell.
        """
        if seen.raised is not None or not (seen.arrivals and right.arrivals):
            return
        due, ran = ({(a.name, a.slot) for a in o.arrivals if a.flowed is not a.value} for o in (right, seen))
        for name, slot in sorted(due ^ ran):
            texts = ("a hook runs", "none runs") if (name, slot) in due else ("no hook runs", "one runs")
            self.diverge(
                index, "hook", "grad", f"{name}@{slot}", Evidence(*texts, "a hook runs once per gradient, until it is removed"), order=1
            )

    def judge_state(self, index: int, statement: Statement, seen: Observation, right: Observation) -> None:
        if statement.kind == "grad":
            self.gradients |= set(statement.out)
            if not statement.observe:  # the reference could not take over their memory order, which what follows inherits
                self.gradients |= {name for s in self.program for name in s.out}
        self.created_graph = self.created_graph or statement.keyword("create_graph") is True
        kept = {n for n in self.new_states if n.endswith(".grad") and self.new_states.get(n[:-5], self.new_states[n]).is_leaf is not True}
        if kept - self.gradients:
            self.gradients |= kept
        for tensor, name, facet, want, got in state.differences(seen, right, self.gradients):
            texts = (f"{name}={want}", f"{name}={got}")
            if name == "exists":
                texts = ("something" if want else "nothing", "something" if got else "nothing")
            self.diverge(index, self.culprit(statement, facet), facet, tensor, Evidence(*texts, "torch's documented state"))

    def judge_values(self, index: int, statement: Statement, seen: Observation) -> None:
        if seen.raised is None or statement.kind in ("backward", "grad"):
            handler = HANDLERS.get(statement.kind)
            if handler is not None:
                self.contiguous_inputs = all(self.is_contiguous(n) for n in statement.refs())
                handler(self, index, statement, seen)
        elif statement.kind == "step":  # the parameters before the one that raised were updated
            self.expected_change.update(self.new_values)
        if self.program.hooked:
            local.add_rebuilt_views(self, index, statement)
        self.judge_unchanged(index, statement, raised.error_key(seen.raised))

    def alone_and_dense(self, name: str) -> bool:
        """Whether a tensor's memory is its own elements, in order."""
        s = self.states.get(name)
        return s is not None and s.offset == 0 and s.base is None and s.alias == name and self.is_contiguous(name)

    def is_contiguous(self, name: str) -> bool:
        s = self.states.get(name)
        if s is None:
            return True
        expected = 1
        for n, stride in zip(reversed(s.shape), reversed(s.strides), strict=True):
            if n != 1 and stride != expected:
                return False
            expected *= n
        return True

    def judge_unchanged(self, index: int, statement: Statement, raised_key: str) -> None:
        if statement.kind == "delete" and self.states.get(statement.args[0].name, None) is not None:
            self.deleted_leaf = self.deleted_leaf or self.states[statement.args[0].name].requires_grad is True
        if self.deleted_leaf and statement.kind in ("backward", "grad"):
            return
        for name, bits in self.new_values.items():
            before = self.values.get(name)
            if before is None or name in self.expected_change or name in statement.out:
                continue
            if before.shape == bits.shape and before.tobytes() != bits.tobytes():
                op = statement.kind if raised_key in SHARED else local.op_name(statement)  # a shared error's path is no op's fault
                why = (
                    "nobody else's value changes"
                    if raised_key == "none"
                    else f"a statement that raises ({raised_key}) leaves everything unchanged"
                )
                self.diverge(index, op, "aliasing", name, changed(before, bits, why))

    def advance(self, statement: Statement, right: Observation) -> None:
        accumulating = {s.alias for n, s in self.new_states.items() if n.endswith(".grad")}
        for name in self.new_slots.keys() - self.slots.keys():
            s = self.new_states.get(name)
            if s is not None and s.alias in accumulating:  # a backward will write into what its own graph has read
                self.deep = True
            # a view that was recorded nowhere: whether it accumulates is its own flag's
            if s is not None and s.is_leaf is True and s.base is not None:
                self.unknown.add(self.new_slots[name])
        if right.states is not None:
            self.states = right.states
            self.values = {n: v for n, v in self.now.items() if n in right.states}
        else:
            self.forget(statement)
        self.slots = self.new_slots

    def forget(self, statement: Statement) -> None:
        """Nobody looked: whatever the statement may have written is unknown from here."""
        if statement.kind in local.WRITES or statement.kind in ("step", "zero_grad", "clear_grad", "backward"):
            self.values = {}


def _slots(right: Observation) -> dict[str, Slot]:
    """Name -> slot; two names of one tensor have one slot."""
    slots: dict[str, Slot] = {name: (name, number) for name, number in right.slots.items()}
    slots.update((name, slots[first]) for name, first in right.same.items() if first in slots)
    return slots


# --- what is judged after each kind of statement ----------------------------------------------------------------------------


def _tensor(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    (name,) = statement.out
    got = seen.values.get(name)
    want = literal_array(statement.args[0])
    if got is not None and np.ascontiguousarray(want).tobytes() != got.tobytes():
        judge.diverge(index, "tensor", "value", name, changed(want, got, "a copy of the literal's bits"))


def _op(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    local.judge_op(judge, index, statement)


def _write(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    local.judge_write(judge, index, statement)


def _same(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    """detach and read_grad: the bits of what they alias."""
    source = statement.args[0].name + (".grad" if statement.kind == "read_grad" else "")
    got = seen.values.get(statement.out[0])
    if got is not None and source in judge.values and judge.values[source].tobytes() != got.tobytes():
        judge.diverge(index, statement.kind, "value", statement.out[0], changed(judge.values[source], got, "an alias shows the same bits"))
    if statement.out[0] in judge.new_slots:
        judge.unknown.update(judge.slots.values())
        judge.deep = True


def _clear(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    name = statement.args[0].name + ".grad"
    if statement.op == "zero" and seen.raised is None and name in judge.values:
        judge.clear_zero(index, statement, name)
    judge.expected_change.add(name)


def _hook(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    judge.hook_wrote = judge.hook_wrote or statement.op == "inplace"
    judge.hook_changed = judge.hook_changed or statement.op != "observe"


def _backward(judge: Judge, index: int, statement: Statement, seen: Observation) -> None:
    balance.judge_backward(judge, index, statement, seen)


HANDLERS: dict[str, Any] = {
    "tensor": _tensor, "call": _op, "method": _op, "operator": _op, "getitem": _op, "inplace": _write, "augmented": _write,
    "setitem": _write, "detach": _same, "read_grad": _same, "clear_grad": _clear, "hook": _hook, "backward": _backward, "grad": _backward,
    "optimizer": optimizer.judge_create, "step": optimizer.judge_step, "zero_grad": optimizer.judge_zero_grad,
}  # fmt: skip


def judge(program: Program, subject: str, seen: list[Observation], right: list[Observation], measure: bool = True) -> Verdict:
    """Divergences of the first statement that differs, the most explaining one first, and what was compared until then."""
    return Judge(program, subject, measure).run(seen, right)


__all__ = ["Judge", "Ref", "Verdict", "judge"]
