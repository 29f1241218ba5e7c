"""Products of matrices against torch: every way through matmul and linear, dtypes, layouts, factors, errors."""

import numpy as np
import pytest

from refgrad._exact import ExactTensor
from tests.against_torch.comparing import ALL, FLOATS, assert_same, np_dtype, values

MATMULS = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (1, 3, 4)),
    ((1, 2, 3), (1, 3, 4)),
    ((6, 5, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((0,), (0,)),
    ((5, 2, 0), (5, 0, 3)),
    ((1, 3), (3,)),
    ((2, 3), (1, 3, 4)),
    ((6, 5, 2, 3), (3,)),
    ((3,), (6, 5, 3, 2)),
    ((), (3,)),
    ((3,), ()),
    ((2,), (3,)),
    ((2, 3), (2, 3)),
    ((2, 3), (4,)),
    ((5, 2, 3), (4, 3, 4)),
    ((5, 2, 3), (2,)),
    ((5, 2, 3), (5, 2, 3)),
]
WRT = ([0, 1], [0], [1], [])


def matmul(t, a, b):
    return t.matmul(a, b)


@pytest.mark.parametrize("shapes", MATMULS, ids=str)
def test_matmul_takes_torchs_way_for_these_shapes(shapes):
    for wrt in WRT:
        assert_same(matmul, values("float32", shapes[0], 1), values("float32", shapes[1], 2), wrt=wrt, label=f"{shapes}, {wrt}")


LAYOUTS = [
    (lambda a: a.swapaxes(-1, -2), lambda b: b, (5, 3, 2), (3, 4)),
    (lambda a: a.swapaxes(-1, -2), lambda b: b, (5, 3, 2), (3,)),
    (lambda a: a.swapaxes(-1, -2), lambda b: b.swapaxes(-1, -2), (3, 2), (4, 3)),
    (lambda a: a, lambda b: b.swapaxes(-1, -2), (2, 3), (5, 4, 3)),
    (lambda a: a, lambda b: b.swapaxes(-1, -2), (3,), (5, 4, 3)),
    (lambda a: a.swapaxes(0, 1), lambda b: b, (2, 5, 3), (3, 4)),
    (lambda a: a[::2], lambda b: b[:, ::2], (4, 3), (3, 4)),
]


@pytest.mark.parametrize("place", range(len(LAYOUTS)))
def test_matmul_takes_torchs_way_for_these_layouts(place):
    left, right, a, b = LAYOUTS[place]
    for wrt in WRT:
        assert_same(matmul, left(values("float32", a, 1)), right(values("float32", b, 2)), wrt=wrt, label=f"layout {place}, {wrt}")


PAIRS = {
    "mm": [((2, 3), (3, 4)), ((2, 3), (2, 3)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 0), (0, 2))],
    "bmm": [
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (4, 3, 4)),
        ((5, 2, 3), (5, 2, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((0, 2, 3), (0, 3, 2)),
    ],
    "mv": [((2, 3), (3,)), ((2, 3), (2,)), ((3,), (3,)), ((2, 3), (3, 1)), ((2, 0), (0,))],
    "dot": [((3,), (3,)), ((3,), (2,)), ((2, 3), (3,)), ((), ()), ((0,), (0,))],
    "outer": [((2,), (3,)), ((2, 1), (3,)), ((), (3,)), ((0,), (3,))],
    "ger": [((2,), (3,))],
}


@pytest.mark.parametrize("dtype", ALL)
def test_products_of_two_agree_for_every_dtype(dtype):
    for name, shapes in PAIRS.items():
        for a, b in (
            shapes if dtype != "bool" else shapes[:4]
        ):  # torch has no kernel for bool, and says so where there is something to compute
            assert_same(
                lambda t, x, y, name=name: getattr(t, name)(x, y), values(dtype, a, 1), values(dtype, b, 2), label=f"{name} {dtype} {a} {b}"
            )


@pytest.mark.parametrize("name", PAIRS)
def test_products_of_two_refuse_mixed_dtypes(name):
    for a, b in PAIRS[name][:4]:
        for other in ("float64", "int64", "float16"):
            assert_same(
                lambda t, x, y: getattr(t, name)(x, y), values("float32", a), values(other, b), label=f"{name} float32 {other} {a} {b}"
            )


TRIPLES = {
    "addmm": [
        ((4,), (2, 3), (3, 4)),
        ((2, 4), (2, 3), (3, 4)),
        ((2, 1), (2, 3), (3, 4)),
        ((), (2, 3), (3, 4)),
        ((3,), (2, 3), (3, 4)),
        ((2, 4), (2, 3), (2, 3)),
        ((2, 4), (3,), (3, 4)),
        ((5, 2, 4), (2, 3), (3, 4)),
        ((2, 2), (2, 0), (0, 2)),
    ],
    "addmv": [
        ((2,), (2, 3), (3,)),
        ((), (2, 3), (3,)),
        ((1,), (2, 3), (3,)),
        ((3,), (2, 3), (3,)),
        ((2,), (2, 3), (2,)),
        ((2,), (2,), (2,)),
    ],
    "baddbmm": [
        ((5, 2, 4), (5, 2, 3), (5, 3, 4)),
        ((4,), (5, 2, 3), (5, 3, 4)),
        ((3,), (5, 2, 3), (5, 3, 4)),
        ((5, 2, 4), (5, 2, 3), (4, 3, 4)),
    ],
}
FACTORS = ({}, {"beta": 2, "alpha": 3}, {"beta": 0}, {"alpha": 0}, {"alpha": 0.5, "beta": -1.5})


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", TRIPLES)
def test_products_added_to_something_agree(name, dtype):
    for shapes in TRIPLES[name]:
        for factors in FACTORS if shapes[-1] != (0, 2) or dtype in FLOATS else ():
            arrays = [values(dtype, s, i) for i, s in enumerate(shapes)]
            assert_same(lambda t, *x, f=factors: getattr(t, name)(*x, **f), *arrays, label=f"{name} {dtype} {shapes} {factors}")


@pytest.mark.parametrize("name", TRIPLES)
def test_products_added_in_place_agree(name):
    for shapes in TRIPLES[name]:
        arrays = [values("float32", s, i) for i, s in enumerate(shapes)]
        assert_same(
            lambda t, x, *y: getattr(x * 1, name + _written(x))(*y, beta=0.5),
            *arrays,
            label=f"{name}_ {shapes}",
            text=name != "addmm" or shapes[0] not in ((3,), (5, 2, 4)),
        )


def _written(x):
    """Balls are not written to: their form in place is the other one."""
    return "" if isinstance(x, ExactTensor) else "_"


@pytest.mark.parametrize("name", TRIPLES)
def test_products_added_to_something_refuse_mixed_dtypes(name):
    for dtypes in (("float64", "float32", "float32"), ("float32", "float64", "float32"), ("float32", "float32", "float64")):
        arrays = [values(d, s) for d, s in zip(dtypes, TRIPLES[name][0], strict=True)]
        assert_same(lambda t, *x: getattr(t, name)(*x), *arrays, label=f"{name} {dtypes}")


def test_a_factor_of_zero_hides_nan():
    nan = np.full((2, 2), np.nan, np.float32)
    one = np.ones((2, 2), np.float32)
    assert_same(lambda t, a, b, c: t.addmm(a, b, c, beta=0), nan, one, one, wrt=[1, 2])
    assert_same(lambda t, a, b, c: t.addmm(a, b, c, alpha=0), one, nan, one, wrt=[])


LINEARS = [
    ((3,), (2, 3), None),
    ((4, 3), (2, 3), None),
    ((5, 4, 3), (2, 3), None),
    ((4, 3), (3,), None),
    ((3,), (3,), None),
    ((4, 3), (2, 3), (2,)),
    ((5, 4, 3), (2, 3), (2,)),
    ((3,), (2, 3), (2,)),
    ((3,), (3,), ()),
    ((4, 2), (2, 3), None),
    ((4, 3), (2, 3), (3,)),
    ((4, 3), (2, 3), (1,)),
    ((6, 5, 4, 3), (2, 3), (2,)),
    ((4, 3), (2, 3), ()),
    ((), (2, 3), None),
    ((4, 3), (1, 2, 3), None),
    ((5, 4, 3), (2, 3), (4, 2)),
    ((5, 4, 3), (2, 3), ()),
    ((3,), (2, 3), (1, 2)),
    ((0, 3), (2, 3), (2,)),
    ((5, 4, 3), (2, 3), (1,)),
    ((4, 3), (3,), (4,)),
]


@pytest.mark.parametrize("shapes", LINEARS, ids=str)
def test_linear_takes_torchs_way(shapes):
    arrays = [values("float32", s, i) for i, s in enumerate(shapes) if s is not None]
    assert_same(lambda t, *x: t.nn.functional.linear(*x), *arrays, label=f"{shapes}")
    if len(shapes[0]) > 1:
        a, b, *rest = shapes[0]
        strided = values("float32", (b, a, *rest)).swapaxes(0, 1)
        assert_same(lambda t, *x: t.nn.functional.linear(*x), strided, *arrays[1:], label=f"{shapes}, strided")


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_inner_dims_stay_within_the_allowance(dtype):
    for n in (17, 64, 300):
        assert_same(matmul, values(dtype, (3, n), 1), values(dtype, (n, 2), 2), label=f"{dtype}, {n}")


@pytest.mark.parametrize("name", ("mm", "bmm", "mv", "dot", "addmm"))
def test_second_derivatives_agree(name):
    shapes = {**{k: v[0] for k, v in PAIRS.items()}, **{k: v[0] for k, v in TRIPLES.items()}}[name]
    arrays = [values("float64", s, i) for i, s in enumerate(shapes)]

    def gradient(t, *x):
        y = getattr(t, name)(*x) ** 2
        return t.autograd.grad(y, x[-1], t.ones_like(y), create_graph=True)[0] * 1

    assert_same(gradient, *arrays, label=name)


def test_products_propagate_special_values():
    special = np.array([[np.inf, 1.0], [np.nan, 0.0]], np_dtype("float32"))
    assert_same(matmul, special, np.eye(2, dtype=np.float32))
