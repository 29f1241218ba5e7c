"""Optimizers: each step's documented algorithm on balls, from the subject's own parameters and gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
    """``buffers``: the momentum buffers as balls; nobody sees them, so their radii grow with each step."""

    op: str
    params: list[str]
    options: dict[str, Any]
    buffers: dict[str, Any] = field(default_factory=dict)


def judge_create(judge: Any, index: int, statement: Statement, seen: Observation) -> None:
    if seen.raised is None:
        names = [a.name for a in statement.args[0] if isinstance(a, Ref)]
        judge.optimizers[statement.out[0]] = _Optimizer(statement.op, names, {**DEFAULTS, **dict(statement.kwargs)})


def judge_step(judge: Any, index: int, statement: Statement, seen: Observation) -> None:
    optimizer = judge.optimizers.get(statement.args[0].name)
    if optimizer is None:
        return
    if len({judge.slots.get(n, n) for n in optimizer.params}) != len(optimizer.params):  # one parameter twice, which torch only warns of
        judge.expected_change.update(judge.values)
        return
    written: dict[str, np.ndarray] = {}
    for name in optimizer.params:
        grad = judge.values.get(name + ".grad")
        if name not in judge.values or grad is None or name not in judge.states:
            continue
        with no_grad():
            out = sgd(optimizer, name, ball(judge.values[name]), ball(grad))
        got = judge.now[name]
        comparison = compare(out._data, out.radius, got)
        judge.count(optimizer.op, name, "value", comparison, out._data, got)
        if comparison.bad is not None:
            found = evidence(out._data, out.radius, got, comparison.bad, "the documented algorithm, one rounding per step")
            judge.diverge(index, optimizer.op, "value", name, found)
        written[name] = got
    judge_aliases(judge, index, statement, written)


def sgd(optimizer: _Optimizer, name: str, param: Any, grad: Any) -> Any:
    """One step of torch.optim.SGD's documented algorithm on balls."""
    o = optimizer.options
    if o["maximize"]:
        grad = -grad
    if o["weight_decay"] != 0:
        grad = grad.add(param, alpha=o["weight_decay"])
    if o["momentum"] != 0:
        buffer = optimizer.buffers.get(name)
        buffer = grad if buffer is None else (buffer * o["momentum"]).add(grad, alpha=1 - o["dampening"])
        optimizer.buffers[name] = buffer
        grad = grad.add(buffer, alpha=o["momentum"]) if o["nesterov"] else buffer
    return param.add(grad, alpha=-o["lr"])


def judge_zero_grad(judge: Any, index: int, statement: Statement, seen: Observation) -> None:
    optimizer = judge.optimizers.get(statement.args[0].name)
    if optimizer is None:
        return
    for name in optimizer.params:
        judge.clear_zero(index, statement, name + ".grad")
