"""Views and what rearranges elements."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, INTS, record
from conformance.program import DType

ALL = (*FLOATS, *INTS, "bool")
Drawn = tuple[list[Any], dict[str, Any]]


def _sizes(g: Any) -> Drawn:
    x = g.operand("view")
    return [x, g.factorization(g.numel(x))], {}


record("view", draw=_sizes, dtypes=ALL, forms=("method",))
record("reshape", draw=_sizes, dtypes=ALL)
for _name in ("transpose", "swapaxes", "swapdims"):
    record(_name, draw=lambda g: (lambda x: ([x, g.dim(x), g.dim(x)], {}))(g.operand("transpose")), dtypes=ALL)
record("t", draw=lambda g: ([g.operand("t", ranks=(0, 2))], {}), dtypes=ALL)
record("permute", draw=lambda g: (lambda x: ([x, g.permutation(g.rank(x))], {}))(g.operand("permute")), dtypes=ALL)
record("squeeze", draw=lambda g: (lambda x: ([x] if g.p.draw_chance(40) else [x, g.dim(x)], {}))(g.operand("squeeze")), dtypes=ALL)
record("unsqueeze", draw=lambda g: (lambda x: ([x, g.p.draw_integer(-g.rank(x) - 1, g.rank(x))], {}))(g.operand("unsqueeze")), dtypes=ALL)


def _expand(g: Any) -> Drawn:
    x = g.operand("expand")
    shape = tuple(g.p.draw_choice((2, 3)) if n == 1 else g.p.draw_choice((n, -1)) for n in g.shape_of(x))
    return [x, ((2,) if g.p.draw_chance(40) else ()) + shape], {}


record("expand", draw=_expand, dtypes=ALL, forms=("method",))
record("broadcast_to", draw=lambda g: (lambda x: ([x, (2, *g.shape_of(x))], {}))(g.operand("expand")), dtypes=ALL)
record("flip", draw=lambda g: (lambda x: ([x, g.dims(x)], {}))(g.operand("flip")), dtypes=ALL)
record("roll", draw=lambda g: (lambda x: ([x, g.p.draw_integer(-3, 3), g.dim(x)], {}))(g.operand("roll", ranks=(1, 4))), dtypes=ALL)
record("diagonal", draw=lambda g: ([g.operand("diagonal", ranks=(2, 4)), g.p.draw_integer(-1, 1)], {}), dtypes=ALL)
record("diag_embed", short=True)
record("diag", draw=lambda g: ([g.operand("diag", ranks=(1, 2)), g.p.draw_integer(-1, 1)], {}), dtypes=ALL, short=True)
record("tril", "triu", draw=lambda g: ([g.operand("tril", ranks=(2, 4)), g.p.draw_integer(-1, 1)], {}), dtypes=ALL)
record("movedim", "moveaxis", draw=lambda g: (lambda x: ([x, g.dim(x), g.dim(x)], {}))(g.operand("movedim")), dtypes=ALL)
record("flatten", draw=lambda g: ([g.operand("flatten")], {}), dtypes=ALL)
record("adjoint", ranks=(2, 4), dtypes=ALL)
record("ravel", "contiguous", "clone", "T", "mT", dtypes=ALL)
record("unflatten", draw=lambda g: (lambda x: ([x, -1, (1, g.shape_of(x)[-1])], {}))(g.operand("unflatten", ranks=(1, 4))), dtypes=ALL)
record(
    "repeat",
    draw=lambda g: (lambda x: ([x, tuple(g.p.draw_integer(1, 2) for _ in g.shape_of(x)) or (2,)], {}))(g.operand("repeat")),
    dtypes=ALL,
    forms=("method",),
)
record("tile", draw=lambda g: ([g.operand("tile"), (2,)], {}), dtypes=ALL)


def _narrow(g: Any) -> Drawn:
    x = g.operand("narrow", ranks=(1, 4))
    dim = g.p.draw_integer(0, g.rank(x) - 1)
    start = g.p.draw_integer(0, g.shape_of(x)[dim])
    return [x, dim, start, g.p.draw_integer(0, g.shape_of(x)[dim] - start)], {}


record("narrow", draw=_narrow, dtypes=ALL)


def _select(g: Any) -> Drawn:
    x = g.operand("select", ranks=(1, 4))
    dim = g.p.draw_integer(-g.rank(x), g.rank(x) - 1)
    size = g.shape_of(x)[dim]
    return [x, dim, g.p.draw_integer(-size, max(size - 1, 0))], {}


record("select", draw=_select, dtypes=ALL)


def _unfold(g: Any) -> Drawn:
    x = g.operand("unfold", ranks=(1, 4))
    dim = g.p.draw_integer(0, g.rank(x) - 1)
    size = min(g.p.draw_integer(0, g.shape_of(x)[dim]), 64)  # every window is as many elements: those of a long vector would be its square
    return [x, dim, size, g.p.draw_integer(1, 2)], {}


record("unfold", draw=_unfold, dtypes=ALL, forms=("method",))


def _as_strided(g: Any) -> Drawn:
    x = g.operand("as_strided", ranks=(1, 4))
    reach = g.numel(x) if g.is_contiguous(x) else 1
    if reach < 2:
        return [x, (1,), (1,)], {}
    return [x, *g.p.draw_choice((((2,), (1,)), ((2, 2), (1, 0)), ((reach // 2,), (2,)), ((2, 1), (1, 1)), ((reach - 1, 2), (1, 1))))], {}


record("as_strided", draw=_as_strided, dtypes=ALL)
record("expand_as", "view_as", "reshape_as", draw=lambda g: (lambda x: ([x, g.like(x)], {}))(g.operand("view_as")), dtypes=ALL)
record("detach", "alias", "sum_to_size", "is_contiguous", drawn=False)
record(
    "to",
    draw=lambda g: ([g.operand("to"), DType(g.dtype_of_any((*FLOATS, "int64", "bool")))], {}),
    dtypes=ALL,
)
record("repeat_interleave", draw=lambda g: (lambda x: ([x, 2, g.dim(x)], {}))(g.operand("repeat_interleave")), dtypes=ALL)
