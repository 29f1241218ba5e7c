"""What is done twice, once quickly and once in general, is the same: an op's compiled path, an operator, a kept number, a kept offset."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import refgrad
from conformance.generate.programs import Drawer, Mix, draw_arguments, drawn_ops, from_seed
from conformance.generate.providers import Stream
from conformance.program import Program
from conformance.subjects.reference import Reference
from conformance.subjects.walk import Walk
from refgrad import _dispatch
from refgrad._attach import OPERATORS
from refgrad._ops.creation import RANDOM
from refgrad._storage import storage_offset
from refgrad._table import OVERLOADS, TABLE, Op
from refgrad._tensor import Tensor, own_storage

SEEDS = range(25)
OPS = [name for name in drawn_ops(Mix())[0] if name not in RANDOM]


def walked(program: Program) -> Walk:
    """The walk after the program's last statement."""
    walk = Walk(Reference(), program)
    walk.run()
    return walk


def calls(name: str) -> Iterator[tuple[Op, tuple[Any, ...]]]:
    """Calls of the op as the generator draws them: the overload, and its arguments in the order of its signature."""
    for seed in SEEDS:
        g = Drawer(Stream(seed), Mix(), Walk(Reference(), Program((), hooked=False), tensor_type=Tensor))
        try:
            args, kwargs = draw_arguments(g, name)
        except Exception:  # what the reference lacks is left out of programs, too
            continue
        bound = [g.walk.resolve(a) for a in args], {k: g.walk.resolve(v) for k, v in kwargs.items()}
        entry = next((o for o in OVERLOADS[name] if o.accepts(tuple(bound[0]), bound[1])), None)
        if entry is not None and not (entry.composite or entry.variadic):
            given = inspect.signature(entry.forward).bind(*bound[0], **bound[1])
            given.apply_defaults()
            yield entry, tuple(given.arguments.values())


def outcome(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call shows, in words: bits, layout, and what its node keeps; or the error."""
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__, str(error)
    return [told(t) for t in (result if isinstance(result, tuple) else (result,))]


def told(t: Tensor) -> Any:
    data, node = t._data, t._node
    strides = [s for s, n in zip(data.strides, data.shape, strict=True) if n > 1] if data.size else []
    kept = (
        None
        if node is None
        else (node.name(), node.outs, len(node.next), [e is not None for e in node.next], seen(node.saved), seen(node.plain))
    )
    return data.dtype, data.shape, strides, data.tobytes(), t._rg, t._nr, t._inference, t._view is not None, kept


def seen(kept: Any) -> Any:
    """What a node keeps, by value."""
    if isinstance(kept, Tensor):
        return kept._data.tobytes()
    if isinstance(kept, np.ndarray):
        return kept.tobytes()
    if isinstance(kept, (tuple, list)):
        return [seen(k) for k in kept]
    return repr(kept) if isinstance(kept, (bool, int, float, str, type(None))) else type(kept).__name__


@pytest.mark.parametrize("name", OPS)
def test_the_compiled_path_of_an_op_shows_what_the_general_call_shows(name: str) -> None:
    for entry, bound in calls(name):
        keywords = dict(zip(entry.params[entry.positional :], bound[entry.positional :], strict=True))
        quick = outcome(entry.python, *bound[: entry.positional], **keywords)
        assert quick == outcome(_dispatch.call, entry, bound), f"{name}{bound}"


@pytest.mark.parametrize("seed", range(40))
def test_a_kept_storage_offset_is_where_the_tensor_lies(seed: int) -> None:
    live = walked(from_seed(seed)).live()
    assert {n: t.storage_offset() for n, t in live} == {n: storage_offset(t._data, own_storage(t)) for n, t in live}


@pytest.mark.parametrize("number", [0.0, -0.0, 0, 1, True, 2.5, -3, float("inf"), 1e300])
@pytest.mark.parametrize("dtype", [refgrad.float32, refgrad.float64])
def test_a_number_is_the_same_array_however_often_it_is_asked_for(number: Any, dtype: Any) -> None:
    for _ in range(2):
        assert _dispatch.constant(number, dtype.np).tobytes() == np.asarray(number, dtype.np).tobytes()


BINARY = {n: OPERATORS[e.symbol][0] for n, e in TABLE.items() if e.symbol and len(e.tensors) == 2 and not e.composite}


@pytest.mark.parametrize("other", ["text", None, [1.0]])
@pytest.mark.parametrize("name", BINARY)
def test_an_operator_leaves_to_its_other_operand_what_it_cannot_take(name: str, other: Any) -> None:
    assert getattr(refgrad.tensor([1.0, 4.0]), BINARY[name])(other) is NotImplemented


@pytest.mark.parametrize(
    "other", [2, 2.5, True, refgrad.tensor([2.0, 3.0]), refgrad.tensor([2, 3]), refgrad.tensor(2.0, dtype=refgrad.float64)]
)
@pytest.mark.parametrize("name", BINARY)
def test_an_operator_shows_what_its_function_shows(name: str, other: Any) -> None:
    x = refgrad.tensor([1.0, 4.0], requires_grad=True)
    assert outcome(getattr(x, BINARY[name]), other) == outcome(TABLE[name].public, x, other)
