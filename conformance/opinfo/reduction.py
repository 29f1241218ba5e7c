"""Reductions: over everything, a dim, or several."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, INTS, record

NUMBERS = FLOATS + INTS
ALL = (*NUMBERS, "bool")


def _dims(name: str, several: bool = True, optional: bool = True, **fields: Any) -> None:
    def draw(g: Any) -> tuple[list[Any], dict[str, Any]]:
        x = g.operand(name)
        kwargs: dict[str, Any] = {}
        if not optional or g.p.draw_chance(65):
            kwargs["dim"] = g.dims(x) if several and g.p.draw_chance(30) else g.dim(x)
            if g.p.draw_chance(40):
                kwargs["keepdim"] = True
        return [x], kwargs

    record(name, draw=draw, **fields)


_dims("sum", dtypes=ALL)
_dims("mean")
_dims("logsumexp", optional=False)
for _name in ("amax", "amin"):
    _dims(_name, dtypes=NUMBERS, recipe="integers")  # ties share the gradient
for _name in ("argmax", "argmin", "max", "min"):
    _dims(_name, several=False, dtypes=NUMBERS, recipe="integers")  # a tie has a documented or the first index
for _name in ("all", "any"):
    _dims(_name, several=False, dtypes=NUMBERS)
_dims("prod", several=False, dtypes=NUMBERS, recipe="integers")  # one zero, or two, and the gradient is no quotient
_dims("count_nonzero", dtypes=ALL)


def _var(name: str) -> None:
    def draw(g: Any) -> tuple[list[Any], dict[str, Any]]:
        x = g.operand(name)
        kwargs: dict[str, Any] = {"correction": g.p.draw_choice((0, 1, 2))} if g.p.draw_chance(50) else {}
        if g.p.draw_chance(60):
            kwargs |= {"dim": g.dims(x) if g.p.draw_chance(30) else g.dim(x), "keepdim": g.p.draw_chance(40)}
        return [x], kwargs

    record(name, draw=draw, ranks=(1, 9))


_var("var")
_var("std")


def _norm(g: Any) -> tuple[list[Any], dict[str, Any]]:
    x = g.operand("norm")
    kwargs: dict[str, Any] = {}
    if g.p.draw_chance(60):
        kwargs["p"] = g.p.draw_choice((2, 1, 2.0, 3.0, float("inf"), 0, 1.5))
    if g.p.draw_chance(50):
        kwargs |= {"dim": g.dim(x), "keepdim": g.p.draw_chance(40)}
    return [x], kwargs


record("norm", draw=_norm)
record("vector_norm", draw=lambda g: ([g.operand("vector_norm")], {"ord": g.p.draw_choice((2, 1, 3.0, float("inf"), -float("inf"), 0.5))}))
record("cumsum", "cumprod", draw=lambda g: (lambda x: ([x, g.dim(x)], {}))(g.operand("cumsum")))
record("nansum", draw=lambda g: ([g.operand("nansum", recipe="extreme")], {}))
