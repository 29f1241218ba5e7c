"""Elementwise ops: domains, integer dtypes, and arguments beyond the operands."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, INTS, record

NUMBERS = FLOATS + INTS
ALL = (*NUMBERS, "bool")

record("add", "mul", dtypes=ALL, weight=20)  # what programs use most
record("sub", dtypes=NUMBERS, weight=20)
record("eq", "ne", "lt", "le", "gt", "ge", dtypes=ALL)
record("neg", "square", "fmod", "remainder", "floor_divide", dtypes=NUMBERS)
record("abs", "sign", dtypes=NUMBERS, recipe="special")
record("relu", recipe="special", weight=20)  # its slope at 0
record("round", recipe="special")
record("logical_not", "isnan", "isinf", "isfinite", dtypes=ALL)
record("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", dtypes=(*INTS, "bool"))
record("bitwise_left_shift", "bitwise_right_shift", dtypes=INTS, drawn=False)
record("log", "log2", "log10", "sqrt", "rsqrt", recipe="positive")
record("log1p", recipe="unit")
record("asin", "acos", "atanh", "logit", recipe="unit")


def _tensors(name: str, ties: bool = False) -> Any:
    """Two tensors: these take no number. ``ties``: equal elements in both have a rule of their own."""

    def draw(g: Any) -> tuple[list[Any], dict[str, Any]]:
        if ties and g.p.draw_chance(60):
            a = g.operand(name, recipe="integers", fresh=True)
            return [a, g.like(a, recipe="integers")], {}
        a, b = g.two_operands(name)
        return [a, b if g.is_tensor(b) or g.p.draw_chance(4) else g.like(a)], {}

    return draw


for _name, _dtypes in (("maximum", ALL), ("minimum", ALL), ("fmax", NUMBERS), ("fmin", NUMBERS)):
    record(_name, draw=_tensors(_name, ties=True), dtypes=_dtypes, weight=15)
for _name, _dtypes in (
    ("logical_and", ALL), ("logical_or", ALL), ("logical_xor", ALL), ("hypot", FLOATS), ("atan2", FLOATS), ("copysign", FLOATS),
    ("logaddexp", FLOATS),
):  # fmt: skip
    record(_name, draw=_tensors(_name), dtypes=_dtypes)


def _pow(g: Any) -> tuple[list[Any], dict[str, Any]]:
    kind = g.p.draw_integer(0, 3)
    if kind == 0:
        return [g.operand("pow", recipe="positive"), g.operand("pow", recipe="special")], {}
    if kind == 1:
        return [g.p.draw_choice((2.0, 0.5, 1.0, 3, 0)), g.operand("pow")], {}
    return [g.operand("pow"), g.p.draw_choice((2, 3, 0, 1, 0.5, -1, -2.0, 1.5))], {}


record("pow", draw=_pow)


def _div(g: Any) -> tuple[list[Any], dict[str, Any]]:
    mode = g.p.draw_choice((None, None, "trunc", "floor"))
    args = g.two_operands("div")
    return args, ({} if mode is None else {"rounding_mode": mode})


record("div", draw=_div, dtypes=NUMBERS, weight=20)


def _clamp(g: Any) -> tuple[list[Any], dict[str, Any]]:
    x = g.operand("clamp")
    low, high = g.p.draw_choice(((-1.0, 1.0), (0.0, None), (None, 0.5), (1, 2), (1.0, -1.0)))
    return [x], {k: v for k, v in (("min", low), ("max", high)) if v is not None}


record("clamp", "clip", draw=_clamp, dtypes=NUMBERS)
record("clamp_min", "clamp_max", draw=lambda g: ([g.operand("clamp_min"), g.p.draw_choice((0.0, 0.5, -1.0))], {}))


def _where(g: Any) -> tuple[list[Any], dict[str, Any]]:
    a, b = g.two_operands("mul")
    shape = g.shape_of(a) if g.is_tensor(a) else g.shape_of(b)
    return [g.fresh("bool", shape), a, b], {}


def _lerp(g: Any) -> tuple[list[Any], dict[str, Any]]:
    x = g.operand("lerp", dtypes=FLOATS)
    end = g.like(x)
    weight = g.like(x, recipe="unit") if g.p.draw_chance(50) else g.p.draw_choice((0.25, 0.5, 0.75, 0.0, 1.0, 2.0))
    return [x, end, weight], {}


record("lerp", draw=_lerp)


def _three(g: Any, name: str) -> tuple[list[Any], dict[str, Any]]:
    x = g.operand(name)
    return [x, g.like(x), g.like(x, recipe="positive")], ({"value": g.p.draw_choice((2, 0.5, -1.0))} if g.p.draw_chance(40) else {})


record("addcmul", draw=lambda g: _three(g, "addcmul"))
record("addcdiv", draw=lambda g: _three(g, "addcdiv"))
record("nan_to_num", draw=lambda g: ([g.operand("nan_to_num", recipe="extreme")], {}))
record("xlogy", draw=lambda g: ([g.operand("xlogy", recipe="special"), g.operand("xlogy", recipe="positive")], {}))
record("where", draw=_where)
record("fill", draw=lambda g: ([g.operand("fill"), g.number()], {}), forms=("call",))
record("zero", "copy", drawn=False)
record("rsub", dtypes=NUMBERS, forms=("call",))
