"""Products of matrices and vectors."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, record

Drawn = tuple[list[Any], dict[str, Any]]


def _size(g: Any) -> int:
    return int(g.p.draw_choice((2, 3, 1, 4, 5, 0, 17)))


def _pair(name: str, left: str, right: str) -> Any:
    """Operands with dims given by letters; ``n`` `m` ``k`` ``b`` are drawn."""

    def draw(g: Any) -> Drawn:
        dtype = g.dtype_of_any(FLOATS)
        if left == "n":
            a = g.operand(name, ranks=(1, 1))
            return [a, g.fresh(g.dtype_of(a), g.shape_of(a))], {}
        a = g.operand(name, ranks=(len(left), len(left)), dtypes=(dtype,))
        sizes = dict(zip(left, g.shape_of(a), strict=True))
        shape = tuple(sizes.setdefault(letter, _size(g)) for letter in right)
        return [a, g.matching(g.dtype_of(a), shape)], {}

    return draw


record("mm", draw=_pair("mm", "nk", "km"))
record("bmm", draw=_pair("bmm", "bnk", "bkm"))
record("mv", draw=_pair("mv", "nk", "k"))
record("dot", draw=_pair("dot", "n", "n"))
record("outer", "ger", draw=_pair("outer", "n", "n"), short=True)


def _matmul(g: Any) -> Drawn:
    left, right = g.p.draw_choice((("nk", "km"), ("k", "k"), ("nk", "k"), ("k", "km"), ("bnk", "bkm"), ("bnk", "km"), ("bnk", "k")))
    if left == "k" and right == "k":
        return _pair("dot", "n", "n")(g)  # type: ignore[no-any-return]
    return _pair("matmul", left, right)(g)  # type: ignore[no-any-return]


record("matmul", draw=_matmul)


def _addmm(g: Any, name: str, left: str, right: str, out: str) -> Drawn:
    (a, b), _ = _pair(name, left, right)(g)
    sizes = {**dict(zip(left, g.shape_of(a), strict=True)), **dict(zip(right, g.shape_of(b), strict=True))}
    bias = g.matching(g.dtype_of(a), tuple(sizes[x] for x in out))
    kwargs = {"beta": g.p.draw_choice((1, 2, 0.5)), "alpha": g.p.draw_choice((1, 2, -0.5))} if g.p.draw_chance(40) else {}
    return [bias, a, b], kwargs


record("addmm", draw=lambda g: _addmm(g, "addmm", "nk", "km", g.p.draw_choice(("nm", "m"))))
record("addmv", draw=lambda g: _addmm(g, "addmv", "nk", "k", "n"))
record("baddbmm", draw=lambda g: _addmm(g, "baddbmm", "bnk", "bkm", "bnm"))


def _linear(g: Any) -> Drawn:
    x = g.operand("linear", ranks=(1, 3))
    out = _size(g)
    weight = g.matching(g.dtype_of(x), (out, g.shape_of(x)[-1]))
    return [x, weight] + ([g.matching(g.dtype_of(x), (out,))] if g.p.draw_chance(60) else []), {}


record("linear", draw=_linear)

record("equal", drawn=False)
