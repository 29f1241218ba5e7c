"""Joining and splitting."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, INTS, record

ALL = (*FLOATS, *INTS, "bool")
Drawn = tuple[list[Any], dict[str, Any]]


def _join(g: Any, name: str) -> Drawn:
    x = g.operand(name, ranks=(1, 4))
    others = tuple(x if g.p.draw_chance(15) else g.like(x) for _ in range(g.p.draw_integer(0, 2)))
    return [(x, *others), g.dim(x)], {}


record("cat", draw=lambda g: _join(g, "cat"), dtypes=ALL, forms=("call",))
record("stack", draw=lambda g: _join(g, "stack"), dtypes=ALL, forms=("call",))
record("hstack", "vstack", "dstack", draw=lambda g: (_join(g, "cat")[0][:1], {}), dtypes=ALL, forms=("call",))


def _split(g: Any) -> Drawn:
    x = g.operand("split", ranks=(1, 4))
    dim = g.dim(x)
    size = g.size(x, dim)
    if g.p.draw_chance(40) and size > 1:
        first = g.p.draw_integer(0, size)
        return [x, (first, size - first), dim], {}
    return [x, g.p.draw_integer(1, 3), dim], {}


record("split", draw=_split, dtypes=ALL, short=True)
record(
    "split_with_sizes",
    draw=lambda g: (lambda x: ([x, (1, g.shape_of(x)[0] - 1)], {}))(g.operand("split", ranks=(1, 4), nonempty=True)),
    dtypes=ALL,
)
record("chunk", draw=lambda g: (lambda x: ([x, g.p.draw_integer(1, 3), g.dim(x)], {}))(g.operand("chunk", ranks=(1, 4))), dtypes=ALL)
record(
    "tensor_split",
    draw=lambda g: (lambda x: ([x, g.p.draw_integer(1, 3), g.dim(x)], {}))(g.operand("tensor_split", ranks=(1, 4))),
    dtypes=ALL,
)
record("unbind", draw=lambda g: (lambda x: ([x, g.dim(x)], {}))(g.operand("unbind", ranks=(1, 4), nonempty=True)), dtypes=ALL, short=True)
