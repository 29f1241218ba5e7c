"""Comparing one array of a subject with the ball that holds what a correct one may show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from conformance.divergence import Element, Evidence
from refgrad._dtypes import FLOAT, OF, dtype
from refgrad._storage import every, some

MAX_ELEMENTS = 24  # differing elements kept per divergence; the rest is counted
#: a ball this much wider than its value says nothing: the element is inconclusive (a relative radius of 1/4 leaves two bits)
INCONCLUSIVE = 0.25


@dataclass(slots=True)
class Comparison:
    """``bad``: a mask of elements outside their ball, or None; ``inconclusive``: how many balls say nothing; ``worst``: in ulps."""

    bad: np.ndarray | None
    inconclusive: int
    elements: int


def compare(mid: np.ndarray, radius: Any, got: np.ndarray, signed_zero: bool = False) -> Comparison:
    """``got`` against the ball. NaN matches NaN, an infinity its own sign; beyond the largest finite value infinity is right."""
    nominal = OF[got.dtype]
    if nominal.category != FLOAT:
        bad = mid != got
        undecided = 0
        if radius is not None:  # where a rounding decides, either truth value is right
            bad, undecided = bad & (radius == 0), int(np.count_nonzero(radius))
        return Comparison(bad if some(bad) else None, undecided, got.size)
    wide = got.astype(mid.dtype)
    ok = np.abs(wide - mid) <= (0.0 if radius is None else radius)
    inconclusive, right = 0, every(ok)
    if radius is not None and right and got.size:
        vague = radius > INCONCLUSIVE * np.abs(mid) + _floor(nominal)
        if some(vague):
            inconclusive = int(np.count_nonzero(vague))
    if right:
        if signed_zero and not every(np.signbit(wide) == np.signbit(mid)):
            bad = np.asarray((np.signbit(wide) != np.signbit(mid)) & (mid == 0))
            return Comparison(bad if bad.any() else None, 0, got.size)
        return Comparison(None, inconclusive, got.size)
    return _special(mid, radius, wide, ok, nominal)


def premature_overflow(comparison: Comparison, mid: np.ndarray, got: np.ndarray, operands: list[np.ndarray]) -> Comparison:
    """Elements that are not finite though the exact result is, where an operand is so large that a square or a sum on the way may overflow:
    torch documents that this may happen (PyTorch notes, Numerical accuracy, Extremal values), so they are inconclusive.
    """
    nominal = OF[got.dtype]
    if comparison.bad is None or nominal.category != FLOAT:
        return comparison
    limit = (nominal.largest / (4 * max([1, *(a.size for a in operands)]))) ** 0.5
    floats = [a if a.dtype.kind == "f" else a.astype(np.float64) for a in operands if a.dtype not in OF or OF[a.dtype].category == FLOAT]
    if not any(np.any(np.isfinite(a) & (np.abs(a) > limit)) for a in floats):
        return comparison
    excused = comparison.bad & ~np.isfinite(got.astype(mid.dtype)) & np.isfinite(mid)
    bad = comparison.bad & ~excused
    return Comparison(bad if bad.any() else None, comparison.inconclusive + int(np.count_nonzero(excused)), comparison.elements)


def _floor(nominal: dtype) -> float:
    """Near zero a radius is judged against the smallest normal number, not the value."""
    return nominal.eta / nominal.unit


def _special(mid: np.ndarray, radius: Any, wide: np.ndarray, ok: np.ndarray, nominal: dtype) -> Comparison:
    rad: Any = np.zeros(mid.shape) if radius is None else np.broadcast_to(radius, mid.shape)
    ok = ok | (np.isnan(mid) & np.isnan(wide)) | (mid == wide)
    reach = np.abs(mid) + rad
    overflow = np.isinf(wide) & (reach > nominal.largest * (1 - nominal.unit)) & (np.sign(wide) == np.sign(mid))
    vague = np.isinf(rad) | (np.isnan(rad) & ~np.isnan(mid))  # where the exact result is no number, so must the subject's be
    bad = np.asarray(~(ok | overflow | vague))
    return Comparison(bad if bad.any() else None, int(np.count_nonzero(vague)), mid.size)


def worst_ulps(mid: np.ndarray, got: np.ndarray) -> float:
    """The largest distance from exact, in ulps of the result's dtype at the exact value; 0 where nothing finite was compared."""
    nominal = OF[got.dtype]
    if nominal.category != FLOAT or got.size == 0:
        return 0.0
    error = np.abs(got.astype(mid.dtype) - mid) / ulp(mid, nominal)
    error = error[np.isfinite(error)]
    return float(error.max()) if error.size else 0.0


def ulp(values: np.ndarray, nominal: dtype) -> np.ndarray:
    """The spacing of the nominal dtype's numbers at ``values`` (binades from below for powers of two)."""
    _, exponent = np.frexp(np.abs(values.astype(np.float64)))
    return np.asarray(np.ldexp(1.0, np.maximum(exponent + _binade(nominal.unit), _binade(nominal.eta))))


@cache
def _binade(power: float) -> int:
    return int(np.log2(power))


def evidence(
    mid: np.ndarray, radius: Any, got: np.ndarray, bad: np.ndarray, reason: str, blame: str = "the subject stands alone"
) -> Evidence:
    """The differing elements, worst first, and what was allowed."""
    nominal = OF[got.dtype]
    shape = got.shape
    places = [tuple(int(i) for i in place) for place in np.argwhere(bad)]
    rad = np.zeros(shape) if radius is None else np.broadcast_to(np.asarray(radius, np.float64), shape)
    elements = [_element(place, mid, rad, got, nominal) for place in places[:2000]]
    elements.sort(key=lambda e: -e.ulps)
    worst = elements[0]
    allowed = _allowed(mid[worst.index], rad[worst.index], nominal)
    return Evidence(
        expected=worst.exact, got=worst.got, reason=reason, allowed_ulps=allowed, shape=shape, elements=tuple(elements[:MAX_ELEMENTS]),
        hidden=len(places) - min(len(elements), MAX_ELEMENTS), blame=blame,
    )  # fmt: skip


def changed(right: np.ndarray, got: np.ndarray, reason: str) -> Evidence:
    """Bits that had to be these and are others."""
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[right.itemsize]
    bad = np.ascontiguousarray(right).view(unsigned) != np.ascontiguousarray(got).view(unsigned)
    nominal = OF[right.dtype]
    mid = right.astype(nominal.wide) if nominal.category == FLOAT else right
    return evidence(mid, None, got, bad.reshape(right.shape), reason)


def _allowed(mid: Any, rad: Any, nominal: dtype) -> float:
    if nominal.category != FLOAT or not np.isfinite(mid):
        return 0.0
    return float(np.float64(rad) / ulp(np.asarray(mid), nominal))


def _element(place: tuple[int, ...], mid: np.ndarray, rad: np.ndarray, got: np.ndarray, nominal: dtype) -> Element:
    m, r, g = mid[place], rad[place], got[place]
    if nominal.category != FLOAT:
        return Element(place, str(m), str(m), str(m), str(g), float("inf"))
    wide = mid.dtype.type(g)
    distance = np.abs(wide - m) / ulp(np.asarray(m), nominal)
    ulps = float(distance) if np.isfinite(distance) else float("inf")
    return Element(place, digits(m), digits(m - r), digits(m + r), digits(g), ulps)


def digits(value: Any) -> str:
    """A number as text, to 20 significant digits where it has them; a signed zero keeps its sign."""
    if isinstance(value, np.longdouble):
        return np.format_float_scientific(value, precision=19, trim="-") if np.isfinite(value) else str(float(value))
    return repr(float(value))


__all__ = ["Comparison", "changed", "compare", "digits", "evidence", "premature_overflow", "ulp", "worst_ulps"]
