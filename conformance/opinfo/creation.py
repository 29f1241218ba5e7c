"""Creation ops: sizes and numbers; of the rest only what makes a tensor like another is drawn by default."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import FLOATS, record
from conformance.program import DType

Drawn = tuple[list[Any], dict[str, Any]]


def _options(g: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if g.p.draw_chance(50):
        kwargs["dtype"] = DType(g.dtype_of_any((*FLOATS, "int64", "bool")))
    if g.p.draw_chance(30):
        kwargs["requires_grad"] = True
    return kwargs


def _size(g: Any) -> tuple[int, ...]:
    return tuple(g.shape((0, 3)))


record("zeros", "ones", draw=lambda g: ([_size(g)], _options(g)), weight=3, forms=("call",))
record("full", draw=lambda g: ([_size(g), g.number()], _options(g)), weight=3, forms=("call",))
record("arange", draw=lambda g: ([g.p.draw_integer(0, 5)], _options(g)), weight=3, forms=("call",))
record("eye", draw=lambda g: ([g.p.draw_integer(0, 4)], _options(g)), weight=3, forms=("call",))
record("full_like", draw=lambda g: ([g.operand("full_like"), g.number()], {}), weight=3)
record("zeros_like", "ones_like", weight=3)
record("new_zeros", "new_ones", draw=lambda g: ([g.operand("new_zeros"), _size(g)], {}), weight=3)
record("new_full", draw=lambda g: ([g.operand("new_full"), _size(g), g.number()], {}), weight=3)
record(
    "empty",
    "empty_like",
    "new_empty",
    "new_tensor",
    "tensor",
    "as_tensor",
    "from_numpy",
    "scalar_tensor",
    "bernoulli",
    "multinomial",
    "linspace",
    "detach_",
    drawn=False,
)
record("rand_like", "randn_like", "randint_like", drawn=False)
