"""Optimizers: each step's documented algorithm on balls, from the subject's own parameters and gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conformance.observation import Observation
from conformance.oracle.interval import compare, evidence
from conformance.oracle.local import judge_aliases
from conformance.program import Ref, Statement
from refgrad._exact import ball
from refgrad._grad_mode import no_grad

#: SGD's documented defaults
DEFAULTS: dict[str, Any] = {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}


@dataclass(slots=True)
class _Optimizer:
    """``buffers``: the momentum buffers as balls; nobody sees them, so their radii grow with each step. ``shares``: parameters may share
    memory.
    """

    op: str
    params: list[str]
    options: dict[str, Any]
    buffers: dict[str, Any] = field(default_factory=dict)
    shares: bool = False


def judge_create(judge: Any, index: int, statement: Statement, seen: Observation) -> None:
    if seen.raised is None:
        names = [a.name for a in statement.args[0] if isinstance(a, Ref)]
        judge.optimizers[statement.out[0]] = _Optimizer(statement.op, names, {**DEFAULTS, **dict(statement.kwargs)})


def judge_step(judge: Any, index: int, statement: Statement, seen: Observation) -> None:
    optimizer = judge.optimizers.get(statement.args[0].name)
    if optimizer is None:
        return
    names = [n for n in optimizer.params if n in judge.values and n + ".grad" in judge.values and n in judge.states]
    places = {name: _place(judge, name) for name in names}
    if _is_unclear(judge, optimizer, places):
        judge.expected_change.update(judge.values)
        return
    started = frozenset(optimizer.buffers)
    stepped: dict[Any, Any] = {}  # a parameter given twice steps twice
    with no_grad():
        for name in names:
            place = places[name]
            param = stepped[place] if place in stepped else ball(judge.values[name])
            stepped[place] = sgd(optimizer, _first_name(judge, places, name), started, param, ball(judge.values[name + ".grad"]))
    for name in dict.fromkeys(names):
        _compare(judge, index, optimizer.op, name, stepped[places[name]])
    judge_aliases(judge, index, statement, {name: judge.now[name] for name in names})


def _place(judge: Any, name: str) -> tuple[Any, ...]:
    """Where the parameter's elements stand."""
    s = judge.states[name]
    return (s.alias, s.offset, s.shape, s.strides)


def _is_unclear(judge: Any, optimizer: _Optimizer, places: dict[str, Any]) -> bool:
    """Whether parameters are different views of one memory, or one was given under two names of which one is gone."""
    if all(name in judge.states for name in optimizer.params):
        optimizer.shares = len({_place(judge, name) for name in optimizer.params}) != len(optimizer.params)
    views = len({place[0] for place in places.values()}) != len(set(places.values()))
    return views or (optimizer.shares and any(name not in judge.states for name in optimizer.params))


def _first_name(judge: Any, places: dict[str, Any], name: str) -> str:
    """The first of the parameters' names for this tensor: they have one gradient, which tensors that share memory have not."""
    grads = {n: judge.states[n + ".grad"].alias for n in places if n + ".grad" in judge.states}
    return next((n for n in grads if (grads[n], places[n]) == (grads.get(name), places[name])), name)


def _compare(judge: Any, index: int, op: str, name: str, out: Any) -> None:
    got = judge.now[name]
    comparison = compare(out._data, out.radius, got)
    judge.count(op, name, "value", comparison, out._data, got)
    if comparison.bad is not None:
        found = evidence(out._data, out.radius, got, comparison.bad, "the documented algorithm, one rounding per step")
        judge.diverge(index, op, "value", name, found)


def sgd(optimizer: _Optimizer, tensor: str, started: frozenset[str], param: Any, grad: Any) -> Any:
    """One step of torch.optim.SGD's documented algorithm on balls. ``started``: tensors that had a momentum buffer before this step."""
    o = optimizer.options
    if o["maximize"]:
        grad = -grad
    if o["weight_decay"] != 0:
        grad = grad.add(param, alpha=o["weight_decay"])
    if o["momentum"] != 0:
        buffer = (optimizer.buffers[tensor] * o["momentum"]).add(grad, alpha=1 - o["dampening"]) if tensor in started else grad
        optimizer.buffers[tensor] = buffer
        grad = grad.add(buffer, alpha=o["momentum"]) if o["nesterov"] else buffer
    return param.add(grad, alpha=-o["lr"])


def judge_zero_grad(judge: Any, index: int, statement: Statement, seen: Observation) -> None:
    optimizer = judge.optimizers.get(statement.args[0].name)
    if optimizer is None:
        return
    judge.clear_zero(index, statement, *[name + ".grad" for name in optimizer.params])
