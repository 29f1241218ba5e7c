"""Tensor literals: bits by recipe, layouts beyond contiguous.

The bits come from pools made once per recipe and dtype, from a fixed seed; a draw is a recipe and an offset into its pool. So a literal
costs two draws, whatever its size.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from conformance.generate.providers import Provider
from conformance.program import Literal, contiguous_strides
from refgrad._dtypes import BOOL, BY_NAME, FLOAT, narrow

POOL: Final = 4096
SHAPES: Final = (
    (3,), (2, 3), (), (1,), (4,), (2, 2), (3, 3), (2, 1), (1, 3), (2, 3, 2), (5,), (2, 0), (0,), (3, 1, 2), (2, 2, 2, 2), (8,), (17,),
)  # fmt: skip
_SHAPE_WEIGHTS: Final = (14, 14, 6, 4, 8, 8, 8, 5, 5, 8, 4, 2, 2, 4, 2, 3, 2)
SHAPE_CUMULATIVE: Final = tuple(int(x) for x in np.cumsum(_SHAPE_WEIGHTS))
#: around the steps of vectorised and threaded kernels
SIZES: Final = (7, 8, 9, 15, 16, 17, 31, 32, 33, 67, 2047, 2048, 2049, 32769)

RECIPES: Final = ("ordinary", "integers", "positive", "unit", "special", "range", "extreme")
RECIPE_CUMULATIVE: Final = (44, 60, 72, 82, 92, 97, 100)
#: recipe -> the pitfall it draws
PITFALL: Final = {"integers": "special points", "special": "special points", "extreme": "extreme values", "range": "extreme values"}


@cache
def pool(recipe: str, dtype: str) -> np.ndarray:
    """POOL values of a recipe, of the dtype."""
    d = BY_NAME[dtype]
    rng = np.random.default_rng([RECIPES.index(recipe), list(BY_NAME).index(dtype)])
    if d.category == BOOL:
        return rng.random(POOL) < 0.5
    if d.category != FLOAT:
        return _integers(recipe, rng, d.np)
    return np.asarray(narrow(_floats(recipe, rng, d), d.np))


def _integers(recipe: str, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = rng.integers(max(low, -4), 6, POOL)
    if recipe in ("positive", "unit"):
        values = rng.integers(1, 6, POOL)
    out = values.astype(dtype)
    if recipe == "extreme":
        where = rng.random(POOL) < 0.3
        out[where] = rng.choice(np.array([low, high, high - 1, low + 1], dtype), int(where.sum()))
    return out


def _floats(recipe: str, rng: np.random.Generator, d: object) -> np.ndarray:
    normal = rng.standard_normal(POOL)
    if recipe == "positive":
        return np.abs(normal) + 0.1
    if recipe == "unit":
        return rng.random(POOL)
    if recipe == "integers":
        return rng.integers(-3, 4, POOL).astype(float)
    if recipe == "special":
        return _mixed(rng, normal, [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 6.0, 1.0], 0.7)
    if recipe == "range":
        return normal * 10.0 ** rng.uniform(-6, 6, POOL)
    if recipe == "extreme":
        largest, eta, unit = d.largest, d.eta, d.unit  # type: ignore[attr-defined]
        points = [np.inf, -np.inf, np.nan, largest, -largest, eta, -eta, eta / unit, largest**0.5, 0.0, -0.0, 1e-20, 1e20]
        return _mixed(rng, normal, points, 0.4)
    return normal


def _mixed(rng: np.random.Generator, ordinary: np.ndarray, points: list[float], share: float) -> np.ndarray:
    return np.where(rng.random(POOL) < share, rng.choice(np.array(points), POOL), ordinary)


def values(provider: Provider, recipe: str, dtype: str, count: int) -> np.ndarray:
    source = pool(recipe, dtype)
    start = provider.draw_integer(0, POOL - 1)
    if start + count <= POOL:
        return source[start : start + count]
    return np.take(source, np.arange(start, start + count), mode="wrap")


LAYOUTS: Final = ("contiguous", "transposed", "strided", "offset", "expanded")
LAYOUT_CUMULATIVE: Final = (72, 82, 91, 97, 100)


def literal(provider: Provider, dtype: str, shape: tuple[int, ...], recipe: str, layout: str = "contiguous") -> Literal:
    """A literal of this dtype, shape and recipe, laid out as ``layout`` says where the shape allows it."""
    strides, offset, reach = _layout(layout, shape)
    data = values(provider, recipe, dtype, reach)
    return Literal(dtype, shape, strides, offset, np.ascontiguousarray(data).tobytes())


def _layout(layout: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    count = int(np.prod(shape, dtype=np.int64))
    plain = contiguous_strides(shape)
    if count == 0 or not shape or layout == "contiguous":
        return plain, 0, count
    if layout == "transposed" and len(shape) > 1:
        return tuple(reversed(contiguous_strides(tuple(reversed(shape))))), 0, count
    if layout == "strided":
        return tuple(2 * s for s in plain), 0, 2 * (count - 1) + 1
    if layout == "expanded" and len(shape) > 1:
        return (0, *plain[1:]), 0, count // shape[0]
    return plain, 2, count + 2
