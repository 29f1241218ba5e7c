"""The trigger of a cause: the pitfall that a minimized program still holds, or ``ordinary``.

Judged on the program alone, so that the same minimized program has the same trigger in every run; the order of ``RULES`` is the order of
precedence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from conformance.oracle.exactly import literal_array
from conformance.program import DType, Literal, Program, contiguous_strides, map_atoms
from refgrad._dtypes import BY_NAME, FLOAT


def _literals(program: Program) -> Iterator[Literal]:
    for s in program:
        for atom in s.args:
            if isinstance(atom, Literal):
                yield atom


def _floats(program: Program) -> Iterator[np.ndarray]:
    for literal in _literals(program):
        if BY_NAME[literal.dtype].category == FLOAT:
            yield literal_array(literal).astype(np.float64)


def _kinds(program: Program, *kinds: str) -> bool:
    return any(s.kind in kinds for s in program)


def _extreme(program: Program) -> bool:
    for values in _floats(program):
        size = np.abs(values[values != 0])
        if not np.isfinite(values).all() or (size > 1e15).any() or (size < 1e-15).any():
            return True
    return False


def _empty(program: Program) -> bool:
    return any(0 in literal.shape for literal in _literals(program))


def _size(program: Program) -> bool:
    return any(n >= 7 for literal in _literals(program) for n in literal.shape)


def _layout(program: Program) -> bool:
    return any(literal.strides != contiguous_strides(literal.shape) or literal.offset for literal in _literals(program))


def _second_backward(program: Program) -> bool:
    return sum(s.kind in ("backward", "grad") for s in program) > 1


def _create_graph(program: Program) -> bool:
    return any(s.keyword("create_graph") is True for s in program)


def _mixed(program: Program) -> bool:
    names = {literal.dtype for literal in _literals(program)}
    for s in program:
        map_atoms((s.args, tuple(v for _, v in s.kwargs)), lambda atom: names.add(atom.name) if isinstance(atom, DType) else None)
    return len({n for n in names if n not in ("int64", "bool")}) > 1


def _special(program: Program) -> bool:
    return any((values == 0).any() for values in _floats(program))


RULES: Final[tuple[tuple[str, Callable[[Program], bool]], ...]] = (
    ("empty and tiny", _empty),
    ("extreme values", _extreme),
    ("size", _size),
    ("modes", lambda p: _kinds(p, "enter")),
    ("hooks", lambda p: _kinds(p, "hook", "retain_grad")),
    ("in-place", lambda p: _kinds(p, "inplace", "augmented", "setitem")),
    ("order", _create_graph),
    ("graph life", _second_backward),
    ("layout", _layout),
    ("dtypes", _mixed),
    ("special points", _special),
)


def trigger(program: Program) -> str:
    """The first pitfall of RULES that the program holds."""
    return next((name for name, holds in RULES if holds(program)), "ordinary")
