"""Every entry of ``refgrad/_ops/unary.py`` against torch.

Compared: dtypes, shapes, layouts, special values, gradients of two orders, in-place forms, errors.
"""

import numpy as np
import pytest

from tests.against_torch.comparing import ALL, FLOATS, assert_same, assert_same_second, special, values

CALLS = {
    name: lambda lib, x, name=name: getattr(lib, name)(x)
    for name in [
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "bitwise_not",
        "ceil",
        "cos",
        "cosh",
        "deg2rad",
        "erf",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "frac",
        "isfinite",
        "isinf",
        "isnan",
        "log",
        "log10",
        "log1p",
        "log2",
        "logical_not",
        "logit",
        "nan_to_num",
        "neg",
        "positive",
        "rad2deg",
        "reciprocal",
        "relu",
        "round",
        "rsqrt",
        "sgn",
        "sigmoid",
        "sign",
        "sin",
        "sinc",
        "sinh",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "trunc",
    ]
} | {
    "logit eps": lambda lib, x: lib.logit(x, eps=0.25),
    "nan_to_num values": lambda lib, x: lib.nan_to_num(x, nan=1.5, posinf=7, neginf=-7),
    "round decimals": lambda lib, x: lib.round(x, decimals=1),
    "-x": lambda lib, x: -x,
    "+x": lambda lib, x: +x,
    "~x": lambda lib, x: ~x,
    "abs(x)": lambda lib, x: abs(x),
}
IN_PLACE = [
    "abs",
    "acos",
    "asin",
    "atan",
    "ceil",
    "cos",
    "deg2rad",
    "erf",
    "exp",
    "expm1",
    "floor",
    "frac",
    "log",
    "log1p",
    "logit",
    "nan_to_num",
    "neg",
    "reciprocal",
    "relu",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinc",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]
#: torch's logit' at -0.0 is inf in float32 and -inf in float64; refgrad gives the limit from inside the domain
UNSETTLED = {"logit": -0.0}


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_for_every_dtype(name):
    for dtype in ALL:
        assert_same(CALLS[name], values(dtype, (2, 3), 1), label=f"{name} {dtype}")


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_for_every_shape_and_layout(name):
    for dtype in FLOATS:
        shapes = (
            values(dtype, (), 2),
            values(dtype, (0, 3), 2),
            values(dtype, (1,), 2),
            values(dtype, (4, 3), 2).T,
            values(dtype, (4, 6), 2)[:, ::2],
        )
        for array in shapes:
            assert_same(CALLS[name], array, label=f"{name} {dtype} {array.shape} {array.strides}")


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_far_out_near_zero_and_at_special_points(name):
    for dtype in FLOATS:
        points = special(dtype)
        if name in UNSETTLED:
            points = points[~((points == 0) & np.signbit(points))]
        for array in (values(dtype, (67,), 3, -20, 20), values(dtype, (67,), 3, 0, 1), points):
            assert_same(CALLS[name], array, label=f"{name} {dtype}")


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"bitwise_not", "isfinite", "isinf", "isnan", "logical_not", "~x"}))
def test_second_derivatives_agree(name):
    for dtype in FLOATS:
        assert_same_second(CALLS[name], values(dtype, (2, 3), 1, 0.1, 0.9), label=f"{name} {dtype}")


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_in_place_form_agrees(name):
    for dtype in ALL:
        assert_same(
            lambda lib, x: getattr(x * 1, name + "_")(),
            values(dtype, (2, 3), 1, 0.1, 0.9),
            exact=lambda lib, x: getattr(lib, name)(x * 1),
            label=f"{name}_ {dtype}",
        )


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_in_place_form_on_a_leaf_raises(name):
    assert_same(lambda lib, x: getattr(x, name + "_")(), values("float32", (2, 3), 1), label=name)
