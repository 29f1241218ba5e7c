"""Zero times something not finite, in a gradient.

IEEE arithmetic calls 0 * inf NaN; an engine that masks, skips a zero gradient (torch's ZeroTensor) or counts a product's zeros calls it
nothing. Neither contradicts the mathematics, where the term does not occur or has no value, so both are right; a number is not. What is
known of the rest of the sum stays: an infinity through a slope that is not zero is an infinity, a NaN through one is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.oracle.exactly import Node
from conformance.oracle.interval import Comparison, compare
from refgrad._exact import ball

Contribution = tuple[Node | None, Any]


def settle(judge: Any, contributions: list[Contribution], comparison: Comparison, mid: np.ndarray, got: np.ndarray) -> Comparison:
    """The comparison without the elements that are right under either reading of zero times something not finite."""
    if comparison.bad is None:
        return comparison
    bad = comparison.bad & ~_as_nothing(judge, contributions, mid, got) & ~_as_nan(judge, contributions, mid, got)
    return Comparison(bad if bad.any() else None, comparison.inconclusive, comparison.elements)


def _as_nothing(judge: Any, contributions: list[Contribution], mid: np.ndarray, got: np.ndarray) -> Any:
    """Where the reference's formula gave NaN and the subject what the sum is without the undefined terms."""
    if not np.isnan(mid).any():
        return np.zeros(mid.shape, bool)
    total, radius = np.zeros_like(mid), np.zeros(mid.shape)
    with np.errstate(all="ignore"):
        for _, contribution in contributions:
            defined = _without_undefined(judge, contribution)
            total, radius = total + defined._data, radius + defined.radius
    found = compare(total, radius, got)
    return np.isnan(mid) & ~np.isnan(total) & (True if found.bad is None else ~found.bad)


def _as_nan(judge: Any, contributions: list[Contribution], mid: np.ndarray, got: np.ndarray) -> Any:
    """Where the subject gave NaN, and an elementwise op was sent something not finite for that very element."""
    found: Any = np.zeros(mid.shape, bool)
    for _, contribution in contributions:
        node, flows, _ = judge.pulled.get(id(contribution), (None, [], 0))
        if node is None:
            continue
        for flow in flows:
            if flow is not None and flow._data.shape == mid.shape and node.elementwise:
                found |= ~np.isfinite(flow._data)
    return found & np.isnan(got.astype(mid.dtype))


def _without_undefined(judge: Any, contribution: Any) -> Any:
    """The contribution from what is finite, plus the infinities and NaNs whose slope is not zero."""
    node, flows, place = judge.pulled.get(id(contribution), (None, [], 0))
    if node is None or not np.isnan(contribution._data).any():
        return contribution
    finite = _pulled(node, flows, place, lambda g: np.where(np.isfinite(g), g, 0))
    if all(f is None or not np.any(np.where(np.isfinite(f._data), f._data, 0)) for f in flows):
        finite._data = np.where(np.isnan(finite._data), 0, finite._data)  # nothing at all was sent
    total = finite._data
    for picked, sign in ((np.isposinf, np.inf), (np.isneginf, -np.inf), (np.isnan, np.nan)):
        if any(f is not None and picked(f._data).any() for f in flows):
            slope = _pulled(node, flows, place, lambda g, picked=picked: picked(g).astype(g.dtype))._data
            flushed = np.abs(slope) < finite.dtype.eta / finite.dtype.unit  # below the normal numbers a slope may be zero, too
            total = total + np.where(flushed, 0, np.sign(slope) * sign)
    made = ball(np.zeros(0), finite.dtype)
    made._data, made._exact = total, (finite._exact[0], np.where(np.isfinite(finite.radius), finite.radius, 0.0))
    return made


def _pulled(node: Node, flows: list[Any], place: int, change: Any) -> Any:
    changed: list[Any] = []
    for flow in flows:
        if flow is None:
            changed.append(None)
            continue
        made = ball(np.zeros(0), flow.dtype)
        made._data, made._exact = change(flow._data), (flow._exact[0], None)
        changed.append(made)
    return node.pull(changed, False)[place][1]
