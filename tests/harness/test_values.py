"""Tensor literals: what each recipe puts into its pool, how each layout lies, and that a literal reaches exactly its own bytes."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance.generate.providers import Stream
from conformance.generate.values import LAYOUTS, PITFALL, POOL, RECIPES, SHAPES, SIZES, literal, pool, values
from conformance.oracle.exactly import literal_array
from conformance.program import ITEMSIZE, Literal, Program, Statement, contiguous_strides
from refgrad._dtypes import BOOL, BY_NAME, FLOAT

FLOATS = [name for name, d in BY_NAME.items() if d.category == FLOAT]
INTEGERS = [name for name, d in BY_NAME.items() if d.category not in (FLOAT, BOOL)]


def as_float(recipe: str, dtype: str) -> Any:
    return pool(recipe, dtype).astype(np.float64)


def has(array: Any, *points: float) -> bool:
    """Whether every point stands in the array, zeros with their sign."""
    return all(((array == point) & (np.signbit(array) == np.signbit(point))).any() for point in points)


# --- pools --------------------------------------------------------------------------------------------------------------


def test_programs_hold_exactly_the_dtypes_that_the_reference_has() -> None:
    assert set(ITEMSIZE) == set(BY_NAME) and all(ITEMSIZE[name] == d.np.itemsize for name, d in BY_NAME.items())


@pytest.mark.parametrize("dtype", BY_NAME)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_a_full_pool_of_every_dtype_that_is_the_same_each_time(recipe: str, dtype: str) -> None:
    first = pool(recipe, dtype)
    pool.cache_clear()
    assert first.dtype == BY_NAME[dtype].np and first.shape == (POOL,) and first.tobytes() == pool(recipe, dtype).tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_two_recipes_of_a_float_dtype_have_no_pool_in_common(dtype: str) -> None:
    assert len({pool(recipe, dtype).tobytes() for recipe in RECIPES}) == len(RECIPES)


#: recipe -> what holds of each of its floats
EACH: dict[str, Callable[[Any], Any]] = {
    "ordinary": lambda x: np.isfinite(x) & (np.abs(x) < 10),
    "integers": lambda x: (x == np.round(x)) & (np.abs(x) <= 3),
    "positive": lambda x: (x > 0) & np.isfinite(x),
    "unit": lambda x: (x >= 0) & (x <= 1),
    "special": lambda x: np.isfinite(x) & (np.abs(x) < 10),
}
#: recipe -> floats that stand in it, whatever the dtype
SOME: dict[str, list[float]] = {
    "integers": [0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0],
    "special": [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0],
    "extreme": [np.inf, -np.inf, 0.0, -0.0],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("recipe", EACH)
def test_each_value_of_a_recipe_is_what_the_recipe_says(recipe: str, dtype: str) -> None:
    assert EACH[recipe](as_float(recipe, dtype)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("recipe", SOME)
def test_the_points_of_a_recipe_stand_in_its_pool_zeros_with_their_sign(recipe: str, dtype: str) -> None:
    assert has(as_float(recipe, dtype), *SOME[recipe])


@pytest.mark.parametrize("dtype", FLOATS)
def test_extreme_holds_nan_the_largest_and_the_smallest_number_of_its_dtype(dtype: str) -> None:
    d, found = BY_NAME[dtype], as_float("extreme", dtype)
    assert np.isnan(found).any() and has(found, d.largest, -d.largest, d.eta, -d.eta)


@pytest.mark.parametrize("dtype", FLOATS)
def test_range_spans_magnitudes_far_from_one_both_ways(dtype: str) -> None:
    size = np.abs(as_float("range", dtype))
    assert size.max() > 1e4 and size[size > 0].min() < 1e-4


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_come_in_runs_that_tie(dtype: str) -> None:
    """Ties, also of three, are among the pitfalls; a draw is a stretch of the pool."""
    found = as_float("special", dtype)
    assert ((found[:-2] == found[1:-1]) & (found[1:-1] == found[2:])).any()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_extreme_integers_hold_both_ends_and_others_stay_small(dtype: str) -> None:
    ends = np.iinfo(BY_NAME[dtype].np)
    assert has(pool("extreme", dtype), ends.min, ends.max) and np.abs(pool("ordinary", dtype).astype(int)).max() < 10


@pytest.mark.parametrize("dtype", INTEGERS)
def test_positive_integers_are_never_zero(dtype: str) -> None:
    assert pool("positive", dtype).min() > 0 and pool("unit", dtype).min() > 0


def test_every_pitfall_of_a_recipe_is_of_a_recipe() -> None:
    assert set(PITFALL) <= set(RECIPES)


# --- draws from a pool --------------------------------------------------------------------------------------------------


class From:
    """A provider whose every integer is this one."""

    def __init__(self, number: int) -> None:
        self.draw_integer = lambda low, high: number


@pytest.mark.parametrize(("start", "count"), [(0, 3), (POOL - 2, 2), (POOL - 2, 5), (7, 2 * POOL), (9, 32769), (4, 0)])
def test_a_draw_is_a_stretch_of_its_pool_that_goes_round(start: int, count: int) -> None:
    source = pool("ordinary", "float32")
    got = values(From(start), "ordinary", "float32", count)  # type: ignore[arg-type]
    assert got.tolist() == [source[(start + i) % POOL] for i in range(count)]


# --- layouts ------------------------------------------------------------------------------------------------------------

EVERY_SHAPE = [*SHAPES, *[(n,) for n in SIZES], (3, 0, 2), (1, 1), (2, 3, 4)]


def drawn(layout: str, shape: tuple[int, ...], dtype: str = "float32", recipe: str = "ordinary") -> Literal:
    return literal(Stream(5), dtype, shape, recipe, layout)


def reach(one: Literal) -> int:
    """How many elements of its memory a literal's own elements span."""
    return 0 if 0 in one.shape else one.offset + sum((n - 1) * s for n, s in zip(one.shape, one.strides, strict=True)) + 1


@pytest.mark.parametrize("shape", EVERY_SHAPE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_literal_has_exactly_the_bytes_that_its_elements_reach(layout: str, shape: tuple[int, ...]) -> None:
    one = drawn(layout, shape)
    assert one.shape == shape and len(one.data) == 4 * reach(one)


@pytest.mark.parametrize("dtype", BY_NAME)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_literal_survives_json_and_shows_values_of_its_pool(layout: str, dtype: str) -> None:
    one = drawn(layout, (2, 3), dtype, "extreme")
    program = Program((Statement("tensor", "", (one,), (), ("t0",)),))
    array = literal_array(one)
    assert Program.from_json(json.dumps(program.to_json())) == program
    assert array.shape == (2, 3) and bits(array) <= bits(pool("extreme", dtype))


def bits(array: Any) -> set[bytes]:
    return {element.tobytes() for element in array.reshape(-1)}


#: layout -> what is true of a literal of shape (2, 3) in it, which no other layout has
LIES: dict[str, Callable[[Literal], bool]] = {
    "contiguous": lambda one: one.strides == (3, 1) and one.offset == 0,
    "transposed": lambda one: one.strides == (1, 2),
    "strided": lambda one: one.strides == (6, 2),
    "offset": lambda one: one.strides == (3, 1) and one.offset > 0,
    "expanded": lambda one: one.strides == (0, 1),
}


def test_every_layout_lies_as_its_name_says_and_as_no_other_does() -> None:
    table = {layout: [name for name, lies in LIES.items() if lies(drawn(layout, (2, 3)))] for layout in LAYOUTS}
    assert table == {layout: [layout] for layout in LAYOUTS}


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shape_that_allows_no_layout_is_contiguous(layout: str, shape: tuple[int, ...]) -> None:
    assert (drawn(layout, shape).strides, drawn(layout, shape).offset) == (contiguous_strides(shape), 0)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
def test_a_shape_of_one_dim_is_still_laid_out_in_some_way(layout: str) -> None:
    one = drawn(layout, (4,))
    assert (one.strides, one.offset) != ((1,), 0)


def test_an_expanded_literal_repeats_its_rows() -> None:
    rows = literal_array(drawn("expanded", (3, 4)))
    assert (rows == rows[0]).all()
