"""Activations with arguments, softmax, losses."""

from __future__ import annotations

from typing import Any

from conformance.opinfo.records import record

Drawn = tuple[list[Any], dict[str, Any]]
record("gelu", draw=lambda g: ([g.operand("gelu")], {"approximate": "tanh"} if g.p.draw_chance(40) else {}))
record("leaky_relu", draw=lambda g: ([g.operand("leaky_relu")], {"negative_slope": 0.25} if g.p.draw_chance(50) else {}))
record("elu", draw=lambda g: ([g.operand("elu")], {"alpha": 0.5} if g.p.draw_chance(50) else {}))
record("threshold", draw=lambda g: ([g.operand("threshold"), 0.5, g.p.draw_choice((0.0, 2.0))], {}))
record("hardtanh", "hardsigmoid", "hardswish", "relu6", recipe="special")


def _softmax(g: Any) -> Drawn:
    x = g.operand("softmax", recipe="range" if g.p.draw_chance(30) else "")  # large inputs: exp alone would overflow
    return [x, g.dim(x)], {}


record("softmax", "log_softmax", draw=_softmax)


def _reduction(g: Any) -> dict[str, Any]:
    return {"reduction": g.p.draw_choice(("mean", "sum", "none"))} if g.p.draw_chance(70) else {}


def _regression(name: str) -> Any:
    def draw(g: Any) -> Drawn:
        x = g.operand(name)
        return [x, g.like(x)], _reduction(g)

    return draw


for _name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
    record(_name, draw=_regression(_name))


def _bce(g: Any, name: str, recipe: str) -> Drawn:
    x = g.operand(name, recipe=recipe, fresh=True)
    target = g.like(x, recipe="unit", plain=True)
    kwargs = _reduction(g)
    if g.p.draw_chance(30):
        kwargs["weight"] = g.like(x, recipe="positive", plain=True)
    if name.endswith("logits") and g.p.draw_chance(30):
        kwargs["pos_weight"] = g.like(x, recipe="positive", plain=True)
    return [x, target], kwargs


record("binary_cross_entropy", draw=lambda g: _bce(g, "binary_cross_entropy", "unit"))
record("binary_cross_entropy_with_logits", draw=lambda g: _bce(g, "binary_cross_entropy_with_logits", "ordinary"))


def _classes(g: Any, name: str) -> Drawn:
    x = g.operand(name, ranks=(1, 2), nonempty=True)
    shape = g.shape_of(x)
    classes = shape[-1]
    kwargs = _reduction(g)
    if g.p.draw_chance(30):
        kwargs["weight"] = g.fresh(g.dtype_of(x), (classes,), recipe="positive")
    if g.p.draw_chance(25):
        kwargs["ignore_index"] = 0
    if name == "cross_entropy" and g.p.draw_chance(25):
        kwargs["label_smoothing"] = 0.1
    if name == "cross_entropy" and g.p.draw_chance(20) and "ignore_index" not in kwargs:
        return [x, g.like(x, recipe="unit", plain=True)], kwargs
    return [x, g.indices(shape[:-1], classes)], kwargs


record("nll_loss", draw=lambda g: _classes(g, "nll_loss"))
record("cross_entropy", draw=lambda g: _classes(g, "cross_entropy"))
record("kl_div", draw=_regression("kl_div"))
