"""Every entry of ``refgrad/_ops/binary.py`` and ``comparison.py`` against torch.

Compared: pairs of dtypes, broadcasting, layouts, special pairs, numbers, errors.
"""

import itertools

import numpy as np
import pytest
import torch

import refgrad
from tests.against_torch.comparing import ALL, FLOATS, INTS, assert_same, assert_same_second, pairs, values

DIFFERENTIABLE = [
    "add",
    "addcdiv",
    "addcmul",
    "atan2",
    "copysign",
    "div",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "lerp",
    "logaddexp",
    "maximum",
    "minimum",
    "mul",
    "pow",
    "remainder",
    "rsub",
    "sub",
    "xlogy",
]
CALLS = {
    name: lambda lib, x, y, name=name: getattr(lib, name)(x, y)
    for name in [
        "add",
        "atan2",
        "bitwise_and",
        "bitwise_left_shift",
        "bitwise_or",
        "bitwise_right_shift",
        "bitwise_xor",
        "clamp_max",
        "clamp_min",
        "copysign",
        "div",
        "eq",
        "equal",
        "floor_divide",
        "fmax",
        "fmin",
        "fmod",
        "ge",
        "gt",
        "hypot",
        "le",
        "logaddexp",
        "logical_and",
        "logical_or",
        "logical_xor",
        "lt",
        "maximum",
        "minimum",
        "mul",
        "ne",
        "pow",
        "remainder",
        "rsub",
        "sub",
        "true_divide",
        "xlogy",
    ]
    if name != "equal"
} | {
    "add alpha": lambda lib, x, y: lib.add(x, y, alpha=2),
    "sub alpha": lambda lib, x, y: lib.sub(x, y, alpha=2),
    "addcdiv": lambda lib, x, y: lib.addcdiv(x, y, y, value=2),
    "addcmul": lambda lib, x, y: lib.addcmul(x, y, x, value=2),
    "clamp max": lambda lib, x, y: lib.clamp(x, max=y),
    "clamp min": lambda lib, x, y: lib.clamp(x, min=y),
    "div None": lambda lib, x, y: lib.div(x, y, rounding_mode=None),
    "div bad": lambda lib, x, y: lib.div(x, y, rounding_mode="bad"),
    "div floor": lambda lib, x, y: lib.div(x, y, rounding_mode="floor"),
    "div trunc": lambda lib, x, y: lib.div(x, y, rounding_mode="trunc"),
    "lerp": lambda lib, x, y: lib.lerp(x, y, 0.3),
    "lerp far": lambda lib, x, y: lib.lerp(x, y, 0.7),
    "lerp tensor": lambda lib, x, y: lib.lerp(x, y, y),
    "special.xlogy": lambda lib, x, y: lib.special.xlogy(x, y),
    "where": lambda lib, x, y: lib.where(x > y, x, y),
    "where method": lambda lib, x, y: x.where(x > y, y),
    "where condition": lambda lib, x, y: lib.where(x, x, y),
}
NUMBERS = (2, 0.5, -1, True, 0, 3, -2.5)
WITH_NUMBER = (
    {
        f"{name} {k!r}": lambda lib, x, name=name, k=k: getattr(lib, name)(x, k)
        for name, k in itertools.product(
            [
                "add",
                "bitwise_and",
                "clamp_max",
                "clamp_min",
                "copysign",
                "div",
                "eq",
                "floor_divide",
                "fmod",
                "lt",
                "maximum",
                "mul",
                "pow",
                "remainder",
                "rsub",
                "sub",
                "xlogy",
            ],
            NUMBERS,
        )
    }
    | {
        f"{code} {k}": lambda lib, x, code=code, k=k: eval(code, {"x": x, "k": k})
        for code, k in itertools.product(
            (
                "k-x",
                "k/x",
                "k**x",
                "k//x",
                "k%x",
                "k+x",
                "k*x",
                "x//k",
                "x%k",
                "x/k",
                "x**k",
                "k&x",
                "k|x",
                "k^x",
                "x&k",
                "k<x",
                "k==x",
                "x>=k",
            ),
            (2, -1, 0, -1.5),
        )
    }
    | {
        "where number": lambda lib, x: lib.where(x > 1, x, 2),
        "number where": lambda lib, x: lib.where(x > 1, 2.5, x),
        "clamp": lambda lib, x: lib.clamp(x, -1, 1),
        "clamp low": lambda lib, x: lib.clamp(x, 1.5),
        "clamp high": lambda lib, x: lib.clamp(x, max=-0.5),
        "clamp crossed": lambda lib, x: lib.clamp(x, 2, -2),
        "clamp nothing": lambda lib, x: lib.clamp(x),
        "clamp far": lambda lib, x: lib.clamp(x, 300, 301),
        "clip": lambda lib, x: lib.clip(x, -1, 1),
        "pow of 2": lambda lib, x: lib.pow(2, x),
        "pow of 0": lambda lib, x: lib.pow(0, x),
        "remainder of 2": lambda lib, x: lib.remainder(2, x),
        "xlogy of 2": lambda lib, x: lib.xlogy(2, x),
        "xlogy of 0": lambda lib, x: lib.xlogy(0, x),
    }
)
#: half an exponent of float16 overflows where the exact value does not
TOO_WIDE = {("addcdiv", "float16")}


def dtype_pairs():
    """Each with itself, and both orders with float32, int64 and bool."""
    return [(a, b) for a, b in itertools.product(ALL, ALL) if a == b or {a, b} & {"float32", "int64", "bool"}]


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_for_pairs_of_dtypes(name):
    for a, b in dtype_pairs():
        assert_same(CALLS[name], values(a, (2, 3), 1), values(b, (2, 3), 11), label=f"{name} {a} {b}")


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_however_operands_broadcast(name):
    for a, b in (((), (3,)), ((3,), ()), ((2, 1), (1, 3)), ((0, 1), (3,)), ((3,), (2,)), ((4, 3), (4, 3)), ((1,), (2, 3, 1))):
        assert_same(CALLS[name], values("float32", a, 1), values("float32", b, 2), label=f"{name} {a} {b}")
    for a, b, other in (((), (3,), "float64"), ((3,), (), "float64"), ((3,), (), "int64")):
        assert_same(CALLS[name], values("float32", a, 1), values(other, b, 2), label=f"{name} {a} {b} {other}")


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_however_operands_are_laid_out(name):
    plain, turned = values("float32", (4, 3), 2), values("float32", (3, 4), 1).T
    for a, b in ((turned, plain), (plain, turned), (turned, turned), (values("float32", (4, 6), 1)[:, ::2], turned)):
        assert_same(CALLS[name], a, b, label=f"{name} {a.strides} {b.strides}")


@pytest.mark.parametrize("name", CALLS)
def test_an_op_agrees_for_every_pair_of_special_values(name):
    for dtype in FLOATS:
        if (name, dtype) not in TOO_WIDE:
            assert_same(CALLS[name], *pairs(dtype), label=f"{name} {dtype}")
        assert_same(CALLS[name], values(dtype, (67,), 4, 0.1, 5), values(dtype, (67,), 5, 0.1, 5), label=f"{name} {dtype} positive")


@pytest.mark.parametrize("name", WITH_NUMBER)
def test_an_op_with_a_number_agrees(name):
    for dtype in ALL:
        assert_same(WITH_NUMBER[name], values(dtype, (2, 3), 1), label=f"{name} {dtype}")
    for array in (values("float32", (), 1), values("float32", (3, 4), 1).T, values("float32", (0, 2), 1)):
        assert_same(WITH_NUMBER[name], array, label=f"{name} {array.shape}")


@pytest.mark.parametrize("name", [*DIFFERENTIABLE, "where", "clamp min"])
def test_second_derivatives_agree(name):
    for dtype, (low, high) in itertools.product(FLOATS, ((0.1, 0.9), (-3, 3))):
        assert_same_second(
            CALLS[name], values(dtype, (2, 3), 1, low, high), values(dtype, (2, 3), 2, low, high), label=f"{name} {dtype} {low}"
        )


@pytest.mark.parametrize("k", (2, 3, 0.5, -1, 1, 0, 2.5, -2))
def test_second_derivatives_of_a_power_agree(k):
    for dtype in FLOATS:
        assert_same_second(lambda lib, x: x**k, values(dtype, (2, 3), 1, 0.1, 2), label=f"{k} {dtype}")


IN_PLACE = [
    "add",
    "atan2",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "clamp_max",
    "clamp_min",
    "copysign",
    "div",
    "fmod",
    "mul",
    "pow",
    "remainder",
    "sub",
    "true_divide",
    "xlogy",
]


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_in_place_form_agrees(name):
    for a, b in (
        ("float32", "float32"),
        ("float16", "float16"),
        ("float32", "int64"),
        ("bfloat16", "uint8"),
        ("int64", "uint8"),
        ("uint8", "uint8"),
        ("int64", "float32"),
    ):
        assert_same(
            lambda lib, x, y: getattr(x * 1, name + "_")(y),
            values(a, (2, 3), 1, 0.1, 3),
            values(b, (2, 3), 2, 0.6, 3),
            exact=lambda lib, x, y: getattr(lib, name)(x * 1, y).to(x.dtype),
            label=f"{name}_ {a} {b}",
        )


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_in_place_form_refuses_to_grow(name):
    assert_same(lambda lib, x, y: getattr(x * 1, name + "_")(y), values("float32", (3,), 1), values("float32", (2, 3), 2, 1, 3), label=name)


def test_equal_compares_shape_and_elements():
    for a, b in itertools.product(("float32", "int64"), ("float32", "float64")):
        x, y = values(a, (3,), 1), values(b, (3,), 1)
        for left, right in ((x, x), (x, y), (x, y[:2])):
            assert_same(lambda lib, p, q: lib.eq(lib.zeros(()) + lib.equal(p, q), 1), left, right, wrt=[])


def test_integer_extremes_divide_as_torch_divides_them():
    """Minus one beside the minimum is left out of quotients: torch's process dies of it."""
    for dtype in INTS:
        extremes = values(dtype, (4,), 1)
        for name in ("fmod", "remainder", "floor_divide"):
            assert_same(CALLS[name], extremes, values(dtype, (4,), 2, 1, 3), label=f"{name} {dtype}")


def test_a_zero_slope_takes_part_in_the_product_with_a_gradient_that_is_not_finite():
    zeros = np.array([0.0, 1.0, 2.0])
    assert_same(lambda t, x: t.pow(0, x).sqrt(), zeros, label="number")
    assert_same(lambda t, x: t.pow(t.zeros_like(x), x).sqrt(), zeros, label="tensor")
    assert_same(lambda t, x: t.copysign(x, 1.0).sqrt(), np.array([0.0, -0.0, 4.0]), label="copysign")


def test_a_root_as_a_power_is_the_power_of_ieee():
    points = [float("-inf"), -0.0, 0.0, 4.0, float("inf")]
    for exponent in (0.5, -0.5):
        right = torch.pow(torch.tensor(points), torch.tensor([exponent] * len(points)))
        for dtype in FLOATS:
            got = refgrad.pow(refgrad.tensor(points, dtype=getattr(refgrad, dtype)), exponent)
            assert str(got.tolist()) == str(right.tolist()), (dtype, exponent)


def test_a_number_takes_part_at_compute_precision_or_rounded_in_16_bits():
    for dtype in FLOATS:
        assert_same(lambda t, x: t.rsub(x, 0.1), values(dtype, (40,), 1, 0.05, 0.15), label=dtype)
        assert_same(lambda t, x: t.rsub(x, 0.1), values(dtype, (), 1, 0.05, 0.15), label=dtype)


REFLECTED = [f"k{sign}x" for sign in ("+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>")]


def outcome(lib, code, dtype, elements, k):
    """dtype and elements, or the exception's type and first line; ``code`` may be a statement that writes to ``x``."""
    known = {"x": lib.tensor(elements, dtype=getattr(lib, dtype)), "k": k, "t": lib}
    try:
        exec(code if "=" in code else f"x = {code}", known)
    except Exception as raised:
        return type(raised).__name__, str(raised).split("\n")[0]
    return str(known["x"].dtype), str(known["x"].tolist())


def assert_same_outcomes(codes, numbers, dtypes=ALL, elements=(1, [1, 3], [0, 2], [])):
    for code, k, dtype, x in itertools.product(codes, numbers, dtypes, elements):
        x = x if dtype != "bool" else bool(x) if isinstance(x, int) else [bool(e) for e in x]
        assert outcome(refgrad, code, dtype, x, k) == outcome(torch, code, dtype, x, k), (code, k, dtype, x)


def test_a_number_on_the_left_of_an_operator_keeps_the_dtype_of_the_tensor():
    assert_same_outcomes(REFLECTED, (2, -1, 0, True, False, 2.5, -1.5))
    assert_same_outcomes(["k//x"], (1e300, float("inf")), ("float64",))


def test_a_divisor_that_wraps_around_to_zero_is_a_zero():
    assert_same_outcomes(["x//k", "x%k", "x//=k", "x%=k", "x.fmod(k)"], (256, 2**40, -(2**40), -256), INTS)


def test_a_dividend_beyond_the_range_is_infinite():
    assert_same_outcomes(["k//x", "k%x"], (2**40, -(2**40), 1e5), ("float16",))


def test_an_exponent_or_bound_beyond_the_range_is_refused():
    numbers = (300, -300, 2**40, 2**63, 65520.0, 1e300, -1e300, float("inf"))
    assert_same_outcomes(["x**k", "x**=k"], numbers, FLOATS + INTS)
    assert_same_outcomes(["x.clamp_min(k)", "x.clamp(max=k)"], numbers, ("float16", "bfloat16", "int32", "int8"))


def test_a_shift_takes_any_distance():
    shifts = ["x<<k", "x>>k", "k<<x", "k>>x", "x<<=k", "x>>=k", "t.bitwise_left_shift(k, x)", "x.bitwise_right_shift_(k)"]
    assert_same_outcomes(shifts, (0, 1, 7, 8, 31, 32, 63, 64, -1, -8, 256, 257, 2**40, True, 2.5), ALL, (-100, [5, 100], []))
    for dtype in INTS:
        extremes = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 5], dtype)
        distances = np.array([0, 1, 3, 7, 8, 31, 64, -1, -9], np.int64).astype(dtype)[:, None]
        for name in ("bitwise_left_shift", "bitwise_right_shift"):
            assert_same(CALLS[name], extremes, distances, label=f"{name} {dtype}")
