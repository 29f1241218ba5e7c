"""Indexing by tensors and masks."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, INTS, record

ALL = (*FLOATS, *INTS, "bool")
Drawn = tuple[list[Any], dict[str, Any]]


def _along(g: Any, name: str) -> tuple[Any, int]:
    x = g.operand(name, ranks=(1, 4), nonempty=True)
    return x, g.p.draw_integer(0, g.rank(x) - 1)


def _gather(g: Any) -> Drawn:
    x, dim = _along(g, "gather")
    shape = list(g.shape_of(x))
    size, shape[dim] = shape[dim], g.p.draw_integer(1, 3)
    return [x, dim, g.indices(tuple(shape), size)], {}


record("gather", draw=_gather, dtypes=ALL)


def _scatter(g: Any, name: str, add: bool = False) -> Drawn:
    x, dim = _along(g, name)
    shape = g.shape_of(x)
    index = g.indices(shape, shape[dim]) if add else g.distinct_indices(shape, dim)
    if not add and g.p.draw_chance(40):
        return [x, dim, index, g.p.draw_choice((0.0, 1.5, -2.0))], {}
    return [x, dim, index, g.like(x)], {}


record("scatter", draw=lambda g: _scatter(g, "scatter"), dtypes=FLOATS)
record("scatter_add", draw=lambda g: _scatter(g, "scatter_add", add=True), dtypes=FLOATS)


def _index_select(g: Any) -> Drawn:
    x, dim = _along(g, "index_select")
    return [x, dim, g.indices((g.p.draw_integer(0, 3),), g.shape_of(x)[dim])], {}


record("index_select", draw=_index_select, dtypes=ALL)


def _index_add(g: Any, name: str) -> Drawn:
    x, dim = _along(g, name)
    shape = list(g.shape_of(x))
    count = shape[dim]
    index = g.indices((count,), count) if name == "index_add" else g.distinct_indices((count,), 0)
    return [x, dim, index, g.like(x)], {}


record("index_add", draw=lambda g: _index_add(g, "index_add"), dtypes=FLOATS)
record("index_copy", draw=lambda g: _index_add(g, "index_copy"), dtypes=FLOATS)


def _index_fill(g: Any) -> Drawn:
    x, dim = _along(g, "index_fill")
    return [x, dim, g.indices((2,), g.shape_of(x)[dim]), g.p.draw_choice((0.0, 1.5))], {}


record("index_fill", draw=_index_fill, dtypes=FLOATS)


def _index_put(g: Any) -> Drawn:
    x = g.operand("index_put", ranks=(1, 4), nonempty=True)
    index = g.distinct_indices((g.shape_of(x)[0],), 0)
    return [x, (index,), g.like(x)], {}


record("index_put", draw=_index_put, dtypes=FLOATS)


def _masked(g: Any, name: str) -> Drawn:
    x = g.operand(name)
    mask = g.fresh("bool", g.shape_of(x))
    return [x, mask] if name == "masked_select" else [x, mask, g.p.draw_choice((0.0, 1.0, float("-inf"), 2.5))], {}


record("masked_fill", draw=lambda g: _masked(g, "masked_fill"))
record("masked_select", draw=lambda g: _masked(g, "masked_select"), dtypes=ALL)


def _take(g: Any) -> Drawn:
    x = g.operand("take", nonempty=True)
    return [x, g.indices((3,), g.numel(x))], {}


record("take", draw=_take, dtypes=ALL)


def _take_along_dim(g: Any) -> Drawn:
    x, dim = _along(g, "take_along_dim")
    return [x, g.indices(g.shape_of(x), g.shape_of(x)[dim]), dim], {}


record("take_along_dim", draw=_take_along_dim, dtypes=ALL)
record("nonzero", dtypes=ALL)
record(
    "sort",
    "argsort",
    draw=lambda g: (lambda x: ([x, g.dim(x)], {}))(g.operand("sort", recipe="ordinary", fresh=True, layout="contiguous")),
    dtypes=FLOATS,
)


def _topk(g: Any) -> Drawn:
    x = g.operand("topk", recipe="ordinary", fresh=True, layout="contiguous")
    dim = g.dim(x)
    args = [x, g.p.draw_integer(0, g.size(x, dim)), dim]
    return args, ({} if g.p.draw_chance(60) else {"largest": False})


record("topk", draw=_topk, dtypes=FLOATS)
record(
    "put",
    draw=lambda g: (lambda x: ([x, g.distinct_indices((g.numel(x),), 0), g.like(x)], {}))(g.operand("put", ranks=(1, 1), nonempty=True)),
)
record("masked_scatter", "argwhere", drawn=False)
